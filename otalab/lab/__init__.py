"""What makes otalab believable: cases, simulated scenes, verification, timing, comparisons of assigners, studies."""
