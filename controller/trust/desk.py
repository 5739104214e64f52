"""The operator's desk of a running controller: mode, policy, rollback, and what is remembered of them.

Whatever takes time (reading a pushed file, building the policy, compiling it, a first decision on a blank observation)
happens in the thread that asked, off the tick's path; the supervisor takes the result in between two ticks. No HTTP
and no Ray here: `serving.admin` puts the desk on a port.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from controller.arrays import ObservationArrays, PlanArrays, empty_observation
from controller.compile import Setting
from controller.errors import InputError, PolicyFileError, ProvisorError, RunError
from controller.journal import Journal, JournalEvent, timings_path
from controller.loop import DecisionLoop
from controller.trust.again import DecideAgain, Remembered
from controller.trust.candidate import warm
from controller.trust.memory import Memory
from controller.trust.mode import Mode, read_mode
from controller.trust.store import FOLDER, PolicyEntry, PolicyStore, entry_of
from controller.trust.supervisor import Supervisor

STATE_FILE = "trust.json"
KEPT_POLICIES = 20
"""Entries that can be rolled back to; the files of older ones stay on disk, for the replay."""

Start = Callable[[Callable[[], None]], None]


class ConflictError(RunError):
    """What was asked for does not go with the state that the controller is in."""


def _in_a_thread(call: Callable[[], None]) -> None:
    threading.Thread(target=call, name="policy-retry", daemon=True).start()


class ControlDesk:
    """What an operator may do; all methods may be called from any thread.

    Args:
        setting: What is decided for.
        supervisor: Of the run.
        store: Keeps pushed files, in the run's folder.
        check: Raises for a plan that the world cannot carry out.
        start: Runs the reload of a failed policy; the default does so in a thread.
        original: The file that the first policy was named by, where it is on this machine; empty for none.
    """

    def __init__(
        self,
        setting: Setting,
        supervisor: Supervisor,
        store: PolicyStore,
        check: Callable[[PlanArrays], None] | None = None,
        start: Start = _in_a_thread,
        original: str = "",
    ) -> None:
        self._setting, self._supervisor, self._store = setting, supervisor, store
        self._check, self._start = check, start
        self._first, self._original = supervisor.entry, original
        self._entries: tuple[PolicyEntry, ...] = (supervisor.entry,)  # replaced whole: readers need no lock
        supervisor.watch(self._watched(supervisor.entry))
        self._lock = threading.Lock()  # held while a policy is loaded
        self._saving = threading.Lock()
        self._is_retrying = False
        self._saved: JsonValue = None

    def set_mode(self, mode: str) -> dict[str, JsonValue]:
        """Changes the mode from the next tick on; returns the status.

        Raises:
            UsageError: No such mode.
        """
        self._supervisor.set_mode(read_mode(mode))
        self.after_tick()
        return self._supervisor.status()

    def policies(self) -> dict[str, JsonValue]:
        """The policy in charge and those it can be rolled back to, the latest first."""
        current, *earlier = reversed(self._entries)
        return {"current": current.as_json(), "earlier": [entry.as_json() for entry in earlier]}

    def push(self, name: str, content: bytes) -> dict[str, JsonValue]:
        """Puts a policy file in charge, once all of it was checked and it has decided once.

        Args:
            name: File name; its ending says what it is, `.provisor` or `.yaml`.
            content: The file.

        Returns:
            As `policies`.

        Raises:
            PolicyFileError: It is damaged, or does not fit this version or catalog; nothing was changed.
            ConfigError: It is a YAML file with wrong settings, or one that names a class; likewise.
            ConflictError: Another change is being made.
        """
        with self._change():
            entry = self._store.keep(name, content)
            self._store.check_pushed(entry)
            self._supervisor.install(self._loop(entry), entry, "push", self._watched(entry))
            self._entries = (*self._entries, entry)[-KEPT_POLICIES:]
        return self.policies()

    def rollback(self) -> dict[str, JsonValue]:
        """Puts the policy before the present one in charge; returns as `policies`.

        Raises:
            ConflictError: There is none, or another change is being made.
            PolicyFileError: Its kept file is gone or altered.
        """
        with self._change():
            if len(self._entries) < 2:
                raise ConflictError("policy: expected an earlier policy to roll back to, got none: nothing was pushed")
            entry = self._entries[-2]
            self._supervisor.install(self._loop(entry), entry, "rollback", self._watched(entry))
            self._entries = self._entries[:-1]
        return self.policies()

    def after_tick(self) -> None:
        """Loads a policy that failed anew once it is due, and saves what a restarted run keeps."""
        if self._supervisor.is_retry_due and not self._is_retrying:
            self._is_retrying = True
            self._start(self._retry)
        self._save()

    def state(self) -> dict[str, JsonValue]:
        """All that outlives a restart, as JSON."""
        entries: list[JsonValue] = [entry.as_json() for entry in self._entries]
        return {"policies": entries, "supervisor": self._supervisor.state()}

    def write_down(self, last: ObservationArrays, write: Callable[[Remembered], bool]) -> bool:
        """Hands over all that a restart would else decide again; see `Supervisor.write_down`."""
        return self._supervisor.write_down(self._entries, last, write)

    def go_on(
        self, journal: Journal, state: Mapping[str, Any] | None, memory: Memory | None = None
    ) -> ObservationArrays | None:
        """Goes on where a run was cut off: policy and rule get their state back by deciding its journal again.

        Args:
            journal: Of the run.
            state: What `state` returned after its last tick or so; None where that is lost.
            memory: The run at a place of the journal, so that only what comes after is decided again.

        Returns:
            What was observed last; None where nothing was.

        Raises:
            JournalError: The journal is damaged before its last line.
            PolicyFileError: A policy of the run is not in its folder any more.
        """
        place = None if memory is None else memory.place
        again = DecideAgain(self._setting, self._store.folder, self._first if memory is None else memory.run)
        for record in journal.records(place):
            if isinstance(record, JournalEvent):
                again.happened(record)
            else:
                again.decide(record)
                self._supervisor.remember(record.observation, not again.is_stale)
        if again.last is None:
            return None
        self._entries = again.entries
        self._supervisor.go_on(again, self._watched(again.entries[-1]))
        if state is not None:
            self._supervisor.restore(state["supervisor"], float(again.last.time_s[0]))
        return again.last

    def restore(self, state: Mapping[str, Any], now_s: float = 0.0) -> None:
        """Takes over what `state` returned, before the first tick: mode, alarms, quiet times and the policy in charge.

        Raises:
            PolicyFileError: The policy's kept file is gone or altered.
        """
        self._entries = tuple(entry_of(fields) for fields in state["policies"])
        entry = self._entries[-1]
        if entry != self._supervisor.entry:
            self._supervisor.begin_with(self._loop(entry), entry, self._watched(entry))
        self._supervisor.restore(state["supervisor"], now_s)

    def _retry(self) -> None:
        try:
            with self._lock:
                entry = self._entries[-1]
                if not self._supervisor.is_retry_due:
                    return  # another one was pushed meanwhile
                try:
                    loop = self._loop(entry)
                except Exception as error:  # noqa: BLE001 - a user's policy may raise anything while it is built
                    self._supervisor.retry_failed(f"{type(error).__name__}: {error}")
                    return
                self._supervisor.install(loop, entry, "retry", self._watched(entry))
        finally:
            self._is_retrying = False

    def _loop(self, entry: PolicyEntry) -> DecisionLoop:
        return warm_loop(self._setting, self._store, entry, self._check)

    def _watched(self, entry: PolicyEntry) -> dict[Path, str]:
        return watched_files(self._store, entry, self._original if entry == self._first else "")

    def _change(self) -> _Change:
        return _Change(self._lock)

    def _save(self) -> None:
        with self._saving:
            self._save_changes()

    def _save_changes(self) -> None:
        status = self._supervisor.status()
        entry = self._supervisor.entry
        kept: dict[str, JsonValue] = {"mode": status["mode"], "identity": entry.identity, "policy": entry.as_json()}
        if kept == self._saved:
            return
        self._saved = kept
        path = self._store.folder / STATE_FILE
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError:
            # A full disk is no reason to stop deciding; the journal, which is, says so first.
            self._saved = None


class _Change:
    """Holds the desk's lock, or says that somebody else does."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=1.0):
            raise ConflictError("policy: expected no other change under way, got one that is still being loaded")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def warm_loop(
    setting: Setting,
    store: PolicyStore,
    entry: PolicyEntry,
    check: Callable[[PlanArrays], None] | None = None,
) -> DecisionLoop:
    """A loop with a fresh policy that has decided once, on nothing, so that it is compiled.

    Raises:
        PolicyFileError: It is damaged, does not fit, fails on the blank observation, or plans what cannot be served.
        ConfigError: Wrong settings.
    """
    try:
        loop = DecisionLoop(setting, store.make(entry, setting))
        plan = warm(loop, empty_observation(1, setting.shape))
        if check is not None:
            check(plan)
    except ProvisorError:
        raise
    except Exception as error:
        text = f"{entry.name}: expected a policy that decides, got {type(error).__name__}: {error}"
        raise PolicyFileError(text) from error
    return loop


def watched_files(store: PolicyStore, entry: PolicyEntry, original: str = "") -> dict[Path, str]:
    """Files that must keep their digest: the kept copy, and the file that the operator named where it is here.

    Args:
        store: Of the run.
        entry: Of the policy.
        original: Path on this machine; empty for none.
    """
    path = store.path(entry)
    if path is None or entry.sha256 is None:
        return {}
    return {path: entry.sha256} | ({Path(original): entry.sha256} if original else {})


def kept_mode(folder: Path, entry: PolicyEntry) -> Mode | None:
    """The mode that the last run in a folder was in, if it was with the same policy; None where nothing is known."""
    try:
        kept = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        return read_mode(kept["mode"]) if kept["identity"] == entry.identity else None
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None


def pushed_files(folder: Path) -> dict[str, Path]:
    """Policies that were pushed in a run's folder, by their path below it."""
    return {f"{FOLDER}/{path.name}": path for path in sorted((folder / FOLDER).glob("*"))}


def files_of_run(journal: Path) -> dict[str, Path]:
    """A journal, its timings and the policies that were pushed, by their path below the run's folder."""
    own = (journal, timings_path(journal))
    return {path.name: path for path in own if path.exists()} | pushed_files(journal.parent)
