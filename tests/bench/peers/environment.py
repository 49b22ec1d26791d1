"""An environment of the peers' own in build/, since their libraries do not go together with ours."""

import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path("build/peers-venv").absolute()
PACKAGES = ("bytewax==0.21.1", "confluent-kafka>=2.6,<2.13", "quixstreams==3.28.1", "msgspec>=0.20")


def peers_python() -> Path:
    """The interpreter of the environment, made when it is not there; uv makes it, or venv and pip where uv is missing.

    Raises subprocess.CalledProcessError when the packages cannot be installed.
    """
    python, stamp = HOME / "bin" / "python", HOME / "installed"
    if stamp.exists() and stamp.read_text() == "\n".join(PACKAGES):
        return python
    shutil.rmtree(HOME, ignore_errors=True)
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(HOME)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    stamp.write_text("\n".join(PACKAGES))
    return python
