"""The script of a SLURM array: each task works on its share of a store's plan, without Dask."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from features_store.errors import UsageError

MAX_RESTARTS = 50  # of a task that is pre-empted, or stops before its time is over
MAX_FAULTS = 3  # restarts after which a fault of a machine is no accident any more
SIGNAL_SECONDS = 120  # before the end of its time, a task is told
EXTRA_CORES = 2  # beside the decoders: to compute, and to write

_SCRIPT = """\
#!/usr/bin/env bash
# Works on the plan of a store, in {num_tasks} tasks ({num_units} units): sbatch THIS_FILE
# Submit it where 'cubereel' runs: sbatch hands the environment on, unless your cluster, or
# --export, says otherwise. Add partition, account and memory, and say for how long; options of
# sbatch count before the lines below. Tasks may run in any order, beside each other, and again:
# what is done is found. 'cubereel status' says how far it is.
#SBATCH --job-name=cubereel
#SBATCH --array=0-{last}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cores}
{gpu}#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=cubereel-%A_%a.log
#SBATCH --signal=B:TERM@{signal_seconds}
set -u
: "${{SLURM_ARRAY_TASK_ID:?is not set; submit this script with sbatch}}"

# The signal reaches this shell alone: it is passed on, and what is in work is sealed.
child='' told=''
trap 'told=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
# shellcheck disable=SC1003,SC1110,SC1111,SC1112,SC2016 # paths may have quotes and dollar signs
{command} --unit "$SLURM_ARRAY_TASK_ID/{num_tasks}" &
child=$!
[ -z "$told" ] || kill -TERM "$child" 2>/dev/null
while :; do
    told='' code=0
    wait "$child" || code=$?
    [ -n "$told" ] || break # else the signal may have ended the waiting, and not the work
done
trap : TERM # the child's number may soon be another's

case $code in
75 | 143) most={max_restarts} ;; # stopped, or others had the store alone: go on
5 | 137) most={max_faults} ;; # a fault of the machine, or killed, as where memory runs out
*) most=0 ;;
esac
if [ "${{SLURM_RESTART_COUNT:-0}}" -lt "$most" ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""

RESERVED = frozenset(
    [
        "case",
        "coproc",
        "do",
        "done",
        "elif",
        "else",
        "esac",
        "fi",
        "for",
        "function",
        "if",
        "in",
        "select",
        "then",
    ]
)


def slurm_script(
    arguments: Sequence[str], *, num_tasks: int, num_units: int, workers: int, has_gpu: bool
) -> str:
    """Return the script, for bash.

    Args:
        arguments: of ``cubereel``; each is quoted, and none is read by the shell.
        workers: that decode, for each of which a task is given a core.

    Raises:
        UsageError: an argument cannot stand in a script.
    """
    for argument in arguments:
        _require_writable(argument)
    return _SCRIPT.format(
        num_tasks=num_tasks,
        num_units=num_units,
        last=num_tasks - 1,
        cores=workers + EXTRA_CORES,
        gpu="#SBATCH --gpus-per-task=1\n" if has_gpu else "",
        signal_seconds=SIGNAL_SECONDS,
        command=" ".join(map(_quoted, ["cubereel", *arguments])),
        max_restarts=MAX_RESTARTS,
        max_faults=MAX_FAULTS,
    )


def _require_writable(argument: str) -> None:
    """Raise `UsageError` for what bash, or sbatch, would not take as it is."""
    if "\0" in argument:
        raise UsageError(f"{argument!r} has a NUL, which no command line can hold; leave it out")
    if "\r" in argument:
        raise UsageError(
            f"{argument!r} has a carriage return, and sbatch refuses scripts with line ends of "
            "DOS; rename the file"
        )
    if not argument.isprintable() and any(0xD800 <= ord(each) <= 0xDFFF for each in argument):
        raise UsageError(
            f"{argument!r} is not UTF-8, in which the script is written; rename the file"
        )


def _quoted(argument: str) -> str:
    """Return a word for bash; those that look like its own, which people may misread, in quotes."""
    return f"'{argument}'" if argument in RESERVED else shlex.quote(argument)
