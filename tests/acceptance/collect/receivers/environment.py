"""Makes the virtual environment of the played receivers below a folder, once for each list of packages, and prints its Python.

`.ci/run` has it made; where it did not, the first test does, and the others wait for that.
"""

import fcntl
import pathlib
import subprocess
import sys

PACKAGES = pathlib.Path(__file__).with_name("packages.txt")


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    python, done = folder / "venv/bin/python", folder / "packages.txt"
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_bytes() != PACKAGES.read_bytes():
            done.unlink(missing_ok=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", PACKAGES]
            for command in ([sys.executable, "-m", "venv", "--clear", folder / "venv"], install):
                subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
            # Last, so that what was cut short is made again.
            done.write_bytes(PACKAGES.read_bytes())
    print(python)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).absolute())
