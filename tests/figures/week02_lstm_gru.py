from tests.figures.claims import Claim

CLAIMS: list[Claim] = []
