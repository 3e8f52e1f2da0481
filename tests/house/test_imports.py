"""`import zebra` and `zebra --help` are instant, and the public names are there."""

import subprocess
import sys

import zebra


def loaded_after(statement):
    code = f"import sys; {statement}; print(' '.join(sorted(m for m in sys.modules if '.' not in m)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def test_importing_zebra_leaves_the_heavy_libraries_out():
    heavy = {"torch", "numpy", "PIL", "pyarrow", "tyro", "sklearn", "matplotlib", "tokenizers"}
    assert not heavy & loaded_after("import zebra")


def test_the_overview_of_verbs_leaves_the_heavy_libraries_out():
    heavy = {"torch", "numpy", "PIL", "pyarrow", "tyro", "sklearn", "matplotlib", "tokenizers"}
    assert not heavy & loaded_after("from zebra.cli.main import main; main(['--help'])")


def test_help_of_train_leaves_torch_out():
    statement = "from zebra.cli.main import main; main(['train', '--help'])"
    assert "torch" not in loaded_after(statement)


def test_every_public_name_resolves():
    for name in zebra.__all__:
        assert getattr(zebra, name) is not None


def test_rooms_are_reached_from_the_package_alone():
    code = "import zebra; zebra.workflows.train.run; zebra.losses.info_nce; zebra.load"
    subprocess.run([sys.executable, "-c", code], check=True)
