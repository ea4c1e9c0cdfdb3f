"""Optimal transport: problems, solvers and certificates. This package knows nothing about boxes or detectors.

Example: gt 0 offers two labels, gt 1 one, and the background the other two. Each of five anchor points wants one.

>>> from otalab.transport import TransportProblem, solve, certify, compare
>>> cost = [[1.0, 2.0, 4.0, 9.0, 8.0],   # gt 0
...         [7.0, 3.0, 2.0, 2.5, 9.0],   # gt 1
...         [3.0, 3.0, 3.0, 3.0, 3.0]]   # background
>>> problem = TransportProblem(cost, supply=[2, 1, 2], demand=[1, 1, 1, 1, 1])

An exact solver labels every anchor point. Its potentials prove the plan optimal: no other plan costs less.

>>> best = solve(problem, method="assignment")
>>> best.labels.tolist()
[0, 0, 1, 2, 2]
>>> f"{best.objective:.3f} >= {best.dual_objective:.3f}, gap {best.gap:.0e}"
'11.000 >= 11.000, gap 0e+00'

OTA's Sinkhorn iterations solve a smoothed problem. Row sums are exact, column sums are not, and each column's label
is the argmax of its entries.

>>> soft = solve(problem, method="sinkhorn", eps=0.5, max_iter=50)
>>> soft.labels.tolist()
[0, 0, 1, 2, 2]
>>> bool(soft.row_error < 1e-6), bool(soft.certificate.is_optimal(tol=1e-3))
(True, False)

Any plan can be certified, wherever it comes from. This one meets its sums but costs 0.5 too much.

>>> plan = best.plan.clone()
>>> plan[:, [2, 3]] = plan[:, [3, 2]]
>>> certificate = certify(problem, plan)
>>> f"{certificate.objective:.1f}, gap {certificate.gap:.1f}, optimal: {certificate.is_optimal()}"
'11.5, gap 0.5, optimal: False'

The same certificate in fractions, without any rounding:

>>> certify(problem, plan, exact=True).gap
Fraction(1, 2)

`print(compare(problem))` shows six of the METHODS in one table; `compare(problem, METHODS)` compares all of them.
"""

from otalab.transport.compare import Comparison, Row, compare
from otalab.transport.methods import METHODS, certify, solve
from otalab.transport.problem import TransportProblem
from otalab.transport.rational import ExactCertificate
from otalab.transport.solution import Certificate, TransportSolution, c_transform

__all__ = [
    "METHODS",
    "Certificate",
    "Comparison",
    "ExactCertificate",
    "Row",
    "TransportProblem",
    "TransportSolution",
    "c_transform",
    "certify",
    "compare",
    "solve",
]
