"""The house: imports go down, one door for each service, names that say something, imports that do nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("infra", "tasks", "tasks.data", "tasks.model", "tasks.release", "flows")  # each may import those before it
VERBS = {"ingest", "validate", "tokenise", "load", "finetune", "package", "evaluate", "register", "promote", "rollout"}
SERVED = "infra.endpoint"  # stays up, and may run a Bundle
VAGUE = {"utils", "util", "common", "helpers", "misc", "core", "base", "manager", "handler"}
DOORS = {
    "boto3": {"infra.storage.s3"},
    "botocore": {"infra.storage.s3"},
    "mlflow": {"infra.registry", "infra.endpoint.pyfunc"},
    "sqlalchemy": {f"infra.ledger{part}" for part in ("", ".tables", ".database", ".leases")},
    "yaml": {"tasks.strict_yaml"},
}
ABSENT = {
    "flows": {"torch", "transformers", "boto3", "mlflow", "datasets"},
    "infra": {"torch", "transformers", "datasets", "prefect"},
    "tasks.release": {"torch"},
}

EXAMPLES = ROOT / "flows" / "recipes"  # what a user writes stands on no floor
FILES = [
    path
    for floor in ("flows", "tasks", "infra")
    for path in sorted((ROOT / floor).rglob("*.py"))
    if EXAMPLES not in path.parents
]


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports break where Prefect loads a flow by its path"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def floor_of(module: str) -> int:
    return max(place for place, floor in enumerate(FLOORS) if module == floor or module.startswith(f"{floor}."))


def ours(names: set[str]) -> set[str]:
    known = {module_of(path) for path in FILES}
    return names & known


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path: Path) -> None:
    module = module_of(path)
    allowed = floor_of("tasks.model") if module.startswith(SERVED) else floor_of(module)
    upward = {name for name in ours(imports_of(path)) if floor_of(name) > allowed}
    assert not upward, f"{module} imports {upward} from a higher floor"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_task_imports_another_verb(path: Path) -> None:
    module = module_of(path)
    if not module.startswith("tasks.") or module.split(".")[-1] not in VERBS:
        return
    verbs = {name for name in ours(imports_of(path)) if name.split(".")[-1] in VERBS and name.count(".") == 2}
    assert not verbs, f"{module} imports the verbs {verbs}; only flows put verbs together"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_each_service_has_one_door(path: Path) -> None:
    module, tops = module_of(path), {name.partition(".")[0] for name in imports_of(path)}
    for package, doors in DOORS.items():
        assert package not in tops or module in doors, f"{module} imports {package}, whose door is {doors}"
    for floor, packages in ABSENT.items():
        if module == floor or module.startswith(f"{floor}."):
            assert not tops & packages, f"{module} imports {tops & packages}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_settings_read_the_environment(path: Path) -> None:
    text = path.read_text()
    assert module_of(path) == "infra.settings" or ("os.environ" not in text and "getenv" not in text)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_module_says_what_stands_in_it(path: Path) -> None:
    assert path.stem not in VAGUE
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_importing_everything_opens_no_socket_and_makes_no_folder(tmp_path: Path) -> None:
    modules = [name for name in map(module_of, FILES) if not name.endswith(("__main__", "endpoint.pyfunc"))]
    script = (
        "import importlib, socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('a socket is opened at import')\n"
        "socket.socket.connect = socket.socket.bind = refuse\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["check", "flows/recipes/quickstart.yaml"]])
def test_help_and_check_import_nothing_heavy(arguments: list[str], home: Path) -> None:
    script = (
        "import sys; from flows.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*sorted({'torch', 'prefect', 'mlflow', 'transformers', 'datasets', 'boto3'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""
