"""Whatever goes wrong, the command line answers with one screen and the documented exit code."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from controller import cli
from controller.errors import ClusterError, ConfigError, RunError

SCREEN_LINES = 24


def failing_with(error: BaseException) -> click.Command:
    @click.command()
    def fail() -> None:
        raise error

    return fail


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """Puts a command into the table under the name `probe`."""

    def install(command: click.Command) -> None:
        monkeypatch.setattr(cli, "probe", command, raising=False)
        monkeypatch.setitem(cli.VERBS, "probe", cli.Verb("controller.cli:probe", "Probe."))

    return install


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """The command and, for a group, every command below it, each with its words."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from commands(below, f"{path} {name}")
    else:
        yield path, command


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ConfigError("a.yaml: price: expected a number >= 0, got -1"), 2),
        (RunError("journal differs at tick 3"), 1),
        (ClusterError("ray://x: unreachable"), 1),
        (ValueError("surprise"), 1),
        (KeyboardInterrupt(), 130),
        (click.BadParameter("expected A:B"), 2),
        (click.FileError("x.csv", "no such file"), 2),
    ],
)
def test_failure_gives_its_exit_code_and_no_traceback(verb, capsys, error: BaseException, exit_code: int) -> None:
    verb(failing_with(error))
    assert cli.main(["probe"]) == exit_code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "error: " in shown.err
    assert "Traceback" not in shown.err
    assert len(shown.err.splitlines()) <= SCREEN_LINES


def test_message_of_a_wrong_input_is_shown_unchanged(verb, capsys) -> None:
    verb(failing_with(ConfigError("a.yaml: price: expected a number >= 0, got -1")))
    cli.main(["probe"])
    assert capsys.readouterr().err == "error: a.yaml: price: expected a number >= 0, got -1\n"


def test_unexpected_failure_names_debug(verb, capsys) -> None:
    verb(failing_with(ValueError("surprise")))
    cli.main(["probe"])
    assert capsys.readouterr().err == "error: unexpected ValueError: surprise\n(add --debug for the traceback)\n"


@pytest.mark.parametrize("words", [["--debug", "probe"], ["probe", "--debug"]])
def test_traceback_is_shown_with_debug_wherever_it_stands(verb, capsys, words: list[str]) -> None:
    verb(failing_with(ConfigError("wrong")))
    assert cli.main(words) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("message", ["\n".join(map(str, range(500))), "x " * 5000])
def test_long_message_fits_one_screen(verb, capsys, message: str) -> None:
    verb(failing_with(ConfigError(message)))
    cli.main(["probe"])
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) <= SCREEN_LINES
    assert len(shown) < 1000


def test_words_after_two_dashes_are_left_alone(verb, capsys) -> None:
    @click.command()
    @click.argument("rest", nargs=-1)
    def echo(rest: tuple[str, ...]) -> None:
        click.echo(" ".join(rest))

    verb(echo)
    assert cli.main(["probe", "--", "--debug"]) == 0
    assert capsys.readouterr().out == "--debug\n"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["versoin"], "Did you mean 'version'?"),
        (["xyzzy"], "xyzzy"),
        (["--nonsense"], "--nonsense"),
        (["version", "--nonsense"], "--nonsense"),
        (["version", "extra"], "extra"),
        ([], "Verbs"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_was_wrong(capsys, words: list[str], part: str) -> None:
    assert cli.main(words) == 2
    shown = capsys.readouterr().err
    assert part in shown
    assert "Traceback" not in shown


def test_version_prints_what_can_change_a_result(capsys) -> None:
    assert cli.main(["version"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^python 3\.\d+", shown, re.MULTILINE)
    assert re.search(r"^torch ", shown, re.MULTILINE)


@pytest.mark.parametrize("name", list(cli.VERBS))
def test_every_verb_loads_and_its_help_has_an_example(name: str) -> None:
    command = cli.provisor.get_command(click.Context(cli.provisor), name)
    assert command is not None
    for path, leaf in commands(command, name):
        text = leaf.get_help(click.Context(leaf, info_name=path))
        assert "Example" in text, f"provisor {path} --help shows no example"
        assert f"provisor {path}" in text, f"the example of provisor {path} does not call it"


@pytest.mark.parametrize("name", list(cli.VERBS))
def test_every_verb_has_a_one_line_summary(name: str) -> None:
    summary = cli.VERBS[name].summary
    assert summary.endswith(".")
    assert len(summary) <= 80


def test_interrupt_of_the_process_exits_130(tmp_path: Path) -> None:
    script = (
        "import signal, sys, click\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits it ignored\n"
        "from controller import cli\n"
        "@click.command()\n"
        "def probe():\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
        "cli.probe = probe\n"
        "cli.VERBS['probe'] = cli.Verb('controller.cli:probe', 'Probe.')\n"
        "sys.exit(cli.main(['probe']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in shown
    assert "Traceback" not in shown


def test_installed_command_returns_the_exit_code(tmp_path: Path) -> None:
    command = Path(sysconfig.get_path("scripts")) / ("provisor.exe" if os.name == "nt" else "provisor")
    done = subprocess.run([command, "versoin"], capture_output=True, text=True, cwd=tmp_path, timeout=20)
    assert done.returncode == 2
    assert "Did you mean 'version'?" in done.stderr
