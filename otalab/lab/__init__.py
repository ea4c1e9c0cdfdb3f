"""The evidence behind otalab: cases, simulated scenes, verification, timing, comparisons of assigners, studies."""
