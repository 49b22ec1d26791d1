"""Claims of a proof hold and fail by the numbers they are read from; what the command refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model_server.evaluation.cli import main
from model_server.evaluation.planted import NULL, PLANTED
from model_server.evaluation.proof import Claim, Proof, Worth, field_claims, scene_claims

NAME, WITHOUT = "counter net", "counter net, no scene"
PERMUTED, OTHERS = "counter net, scene permuted", "counter net, scene of others"


def worth(scene: float = 0.12, others: float = 0.1, oracle: float = 0.13, habits: float = 0.105) -> Worth:
    """A shop in which the ranker is worth so much beside .1 without scene; what is alike differs by chance alone."""
    rng = np.random.default_rng(0)
    requests = rng.uniform(0.5, 1.5, 400)
    of = {NAME: scene, WITHOUT: 0.1, PERMUTED: habits, OTHERS: others}
    rows = {name: value * requests * rng.uniform(0.9, 1.1, 400) for name, value in of.items()}
    return Worth(oracle * requests, {name: row[None] for name, row in rows.items()}, np.arange(400) // 4, 0)


def context(told: float = 0.6, null: float = 0.5) -> dict[str, dict[str, float]]:
    return {
        field: {"auc": auc, "low": auc - 0.02, "high": auc + 0.02}
        for fields, auc in ((PLANTED, told), (NULL, null))
        for field in fields
    }


def test_claims_hold_where_the_scene_is_worth_what_was_planted() -> None:
    claims = [*scene_claims(NAME, worth(0.125), worth(0.1)), *field_claims(context())]
    assert [claim.says for claim in claims if not claim.holds] == []
    assert claims[0].value == pytest.approx(0.125 / 0.13, rel=0.02)
    assert claims[1].value == pytest.approx(0.25, abs=0.02)
    assert all(claim.low <= claim.value <= claim.high for claim in claims)


@pytest.mark.parametrize(
    ("claims", "failing"),
    [
        (scene_claims(NAME, worth(0.125, oracle=0.15), worth(0.1)), "of the oracle"),
        (scene_claims(NAME, worth(0.115), worth(0.1)), "gains 20%"),
        (scene_claims(NAME, worth(0.125), worth(0.105)), "nothing is planted"),
        (scene_claims(NAME, worth(0.125, others=0.105), worth(0.1)), "(placebo) gains nothing"),
        (scene_claims(NAME, worth(0.125, habits=0.125), worth(0.1)), "above that of another visit"),
        (field_claims(context(told=0.51)), "right from wrong"),
        (field_claims(context(null=0.55)), "not tell network"),
        (field_claims(context(null=0.45)), "not tell weekday"),
    ],
)
def test_a_claim_fails_by_its_own_number(claims: Any, failing: str) -> None:
    assert any(failing in claim.says for claim in claims if not claim.holds)


def test_a_seed_that_came_out_badly_is_told_and_makes_what_is_over_it_less_sure() -> None:
    even = worth(scene=0.102)
    without = even.of[WITHOUT] * np.array([[1.05], [1.05], [0.9]])  # of the same mean
    uneven = Worth(even.best, {NAME: even.of[NAME], WITHOUT: without}, even.user, even.seed)
    sure, unsure = even.gain(NAME, WITHOUT), uneven.gain(NAME, WITHOUT)
    assert unsure[0] == pytest.approx(sure[0])
    assert 0 < sure[1] < sure[2] < 0.04
    assert unsure[1] < -0.02
    assert unsure[2] > 0.1
    assert uneven.told()["by seed"] == {WITHOUT: pytest.approx(without.mean(1).tolist())}


def test_a_proof_holds_if_every_claim_does() -> None:
    good, bad = Claim("good", 1.0, 0.9, 1.1, holds=True), Claim("bad", 1.0, 0.9, 1.1, holds=False)
    assert Proof([good, good], {}, {}, {}).holds
    proof = Proof([good, bad], {}, {}, {"seed": 3})
    assert not proof.holds
    assert proof.told()["claims"][1] == {"says": "bad", "value": 1.0, "low": 0.9, "high": 1.1, "holds": False}
    assert proof.told()["seed"] == 3


def test_a_planted_shop_has_its_own_log(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--planted", "--events", "shop.csv"])
    assert ended.value.code == 2
    assert "--planted makes its own log" in capsys.readouterr().err
