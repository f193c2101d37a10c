"""A member's own packages: they stay, and never break a new image."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jupyterhub_collab.singleuser import packages

OLD, NEW = "basic.aaaaaaaaaaaa", "basic.bbbbbbbbbbbb"


def install(base: Path, name: str, text: str) -> None:
    """What pip would leave."""
    folder = packages.site_packages(base) / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(text)


@pytest.fixture
def personal(tmp_path):
    return tmp_path / ".local" / "collab"


def environ_of(base: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH",)}
    given = {**kept, "PYTHONUSERBASE": str(base), **more}
    return {**given, **packages.package_environment(given)}


def python(environ: dict[str, str], code: str, *, program: str = sys.executable) -> str:
    done = subprocess.run(
        [program, "-c", textwrap.dedent(code)], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_was_installed_under_this_image_comes_before_the_images_own(personal):
    base = personal / NEW
    install(base, "tornado", "WHOSE = 'mine'")
    install(base, "only_mine", "WHOSE = 'mine'")
    environ = environ_of(base)
    assert python(environ, "import tornado, only_mine; print(tornado.WHOSE)") == "mine"


def test_a_new_image_is_not_broken_by_packages_of_the_old_one(personal):
    install(personal / OLD, "tornado", "raise ImportError('built for the old image')")
    install(personal / OLD, "left_over", "WHOSE = 'old'")
    environ = environ_of(personal / NEW)
    assert python(environ, "import tornado; print(tornado.version_info[0])").isdigit()
    # What the image does not have is still there.
    assert python(environ, "import left_over; print(left_over.WHOSE)") == "old"


def test_packages_of_another_image_are_not_seen(personal):
    install(personal / "other.cccccccccccc", "left_over", "")
    environ = environ_of(personal / NEW)
    code = """
        try:
            import left_over
        except ImportError:
            print("none")
    """
    assert python(environ, code) == "none"


def test_the_standard_library_is_nobodys_to_replace(personal):
    install(personal / NEW, "json", "raise ImportError('mine')")
    assert python(environ_of(personal / NEW), "import json; print(json.dumps(1))") == "1"


def test_newest_of_several_old_ones_first(personal):
    for i, name in enumerate(("basic.1", "basic.2", "basic.3")):
        install(personal / name, "left_over", f"WHOSE = {name!r}")
        os.utime(packages.site_packages(personal / name), (i, i))
    found = python(environ_of(personal / NEW), "import left_over; print(left_over.WHOSE)")
    assert found == "basic.3"


def test_a_virtual_environment_of_the_members_own_is_left_alone(personal, tmp_path):
    install(personal / NEW, "only_mine", "")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    code = """
        try:
            import only_mine
        except ImportError:
            print("none")
    """
    program = str(tmp_path / "v" / "bin" / "python")
    assert python(environ_of(personal / NEW), code, program=program) == "none"


def test_an_images_own_sitecustomize_still_runs(personal, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "sitecustomize.py").write_text("import sys; sys.theirs = 1")
    environ = environ_of(personal / NEW, PYTHONPATH=str(tmp_path / "theirs"))
    assert python(environ, "import sys; print(sys.theirs)") == "1"


def test_pip_puts_it_there(personal, tmp_path):
    """A real pip and a real package, without an index."""
    source = tmp_path / "tiny"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "tiny-one"\nversion = "1"\n'
        '[tool.setuptools]\npy-modules = ["tiny_one"]\n'
    )
    (source / "tiny_one.py").write_text("WHOSE = 'mine'")
    environ = environ_of(personal / NEW)
    command = "-m pip install --quiet --no-index --no-deps --no-build-isolation"
    done = subprocess.run(
        [sys.executable, *command.split(), str(source)], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (packages.site_packages(personal / NEW) / "tiny_one.py").exists()
    assert python(environ, "import tiny_one; print(tiny_one.WHOSE)") == "mine"


def test_without_a_base_nothing_is_set():
    assert packages.package_environment({"PATH": "/bin"}) == {}


def test_the_way_back_when_a_package_breaks_the_server(personal):
    install(personal / NEW, "tornado", "raise ImportError('broken')")
    safe = packages.safe_environment(environ_of(personal / NEW))
    assert python(safe, "import tornado; print(tornado.version_info[0])").isdigit()
    assert str(personal) not in safe["PATH"]


@pytest.fixture
def pod(tmp_path, personal):
    """A home, and a stand-in for the server on the PATH."""

    def run(script: str) -> subprocess.CompletedProcess[str]:
        programs = tmp_path / "bin"
        programs.mkdir()
        program = programs / "jupyterhub-singleuser"
        program.write_text(f"#!{sys.executable}\n{textwrap.dedent(script)}")
        program.chmod(0o755)
        environ = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            "HOME": str(tmp_path),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONUSERBASE": str(personal / NEW),
        }
        return subprocess.run(
            [sys.executable, "-m", "jupyterhub_collab.singleuser", "--flag"],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def test_the_server_gets_its_arguments_and_its_exit_code_is_passed_on(pod):
    done = pod("import sys; print(sys.argv[1:]); sys.exit(7)")
    assert "--flag" in done.stdout
    assert done.returncode == 7


def test_a_broken_package_does_not_lock_its_owner_out(pod, personal):
    install(personal / NEW, "tornado", "raise ImportError('broken')")
    done = pod("import tornado; print('up', tornado.version_info[0])")
    assert done.returncode == 0
    assert "up" in done.stdout
    assert "It starts without them now" in done.stderr


def test_a_server_that_is_told_to_end_is_not_started_again(pod, personal):
    install(personal / NEW, "only_mine", "")
    done = pod(
        """
        import os, signal, time
        print("started", flush=True)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)
        """
    )
    assert done.stdout.count("started") == 1
    assert done.returncode == 128 + 15


def test_nothing_of_the_hub_is_imported_in_a_pod():
    code = """
        import sys
        import jupyterhub_collab.singleuser.__main__
        heavy = ("kubespawner", "kubernetes", "kubernetes_asyncio", "jupyterhub", "pydantic")
        print([name for name in heavy if name in sys.modules])
    """
    assert python(dict(os.environ), code) == "[]"
