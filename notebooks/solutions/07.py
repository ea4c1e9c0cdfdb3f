"""Lesson 07: let eps and iterations move together."""

from otalab.lessons import lesson07

# The budget is fixed, so spend all of it, and look for the bottom of the U-curve there.
iterations = lesson07.BUDGET
shares = {eps: lesson07.wrong_share(eps, iterations) for eps in (0.1, 0.05, 0.02, 0.01, 0.005)}
for eps, share in shares.items():
    print(f"eps {eps:<6g} {share:.1%} wrong")

# Above it the plan is blurred, below it Sinkhorn is still on its way.
eps = min(shares, key=shares.get)

verdict = lesson07.check(eps, iterations)
print(verdict)
