#!/usr/bin/env bash
# The loop of a controller that learns from what it serves: capture -> retrain -> what-if -> shadow -> promote.
#
#   retrain-and-promote.sh JOURNAL OUT [--like RUN.yaml] [--steps N] [--seeds N] [--shadow-s S] [--until STEP] [-- ADMIN...]
#
# JOURNAL is that of a live run, which goes on meanwhile. OUT gets the captured run, the training and the what-if tables.
# --like RUN.yaml   training settings and policies are taken from this run file
# --steps N         decisions per training seed
# --seeds N         seeds of the what-if                                   [5]
# --shadow-s S      seconds that the new policy only watches               [1800]
# --until STEP      stop, with success, after capture, train, what-if, push or shadow
# -- ADMIN...       options of `provisor policy push` and `provisor mode`, such as where the admin API listens
#
# Exit codes: 0 promoted (or stopped as asked), 1 a step failed, 2 wrong usage,
#             3 refused on the captured traffic: nothing was pushed,
#             4 refused after the shadow: the policy stays in shadow, and what drove before goes on driving.
set -uo pipefail

PROVISOR=${PROVISOR:-provisor}

usage() { sed -n '4,16p' "$0" | cut -c3- >&2; exit 2; }
step() { printf '== %s\n' "$*" >&2; }
fail() { printf 'error: %s failed with exit code %s\n' "$1" "$2" >&2; exit 1; }
stop_after() { [ "$until" != "$1" ] || { step "stopped after $1, as asked"; exit 0; }; }

[ $# -ge 2 ] || usage
journal=$1 out=$2
shift 2
like=() steps=() seeds=5 shadow_s=1800 until=promote admin=()
while [ $# -gt 0 ]; do
    case $1 in
        --) shift; admin=("$@"); break ;;
        --like | --steps | --seeds | --shadow-s | --until)
            [ $# -ge 2 ] || usage
            case $1 in
                --like) like=(--like "$2") ;;
                --steps) steps=(--steps "$2") ;;
                --seeds) seeds=$2 ;;
                --shadow-s) shadow_s=$2 ;;
                --until) until=$2 ;;
            esac
            shift 2 ;;
        *) usage ;;
    esac
done
case $until in capture | train | what-if | push | shadow | promote) ;; *) usage ;; esac
policy=$out/train/policy.provisor

step "capture: the traffic of $journal becomes a run to train on"
"$PROVISOR" capture "$journal" --write-run --out "$out/captured" --force ${like[@]+"${like[@]}"} || fail capture $?
stop_after capture

step "train: a policy on the captured traffic"
rm -rf "$out/train"
"$PROVISOR" train "$out/captured/run.yaml" --out "$out/train" ${steps[@]+"${steps[@]}"} || fail train $?
stop_after train

step "what-if: the new policy against the one that runs, on the captured traffic"
"$PROVISOR" what-if "$journal" --policy "$policy" --gate "$policy" --seeds "$seeds" --out "$out/what-if"
code=$?
case $code in
    0) ;;
    1) step "refused: on the captured traffic the new policy is not surely better; nothing was pushed"; exit 3 ;;
    *) fail what-if $code ;;
esac
stop_after what-if

step "push: the controller gets the file, and decides with it in shadow"
"$PROVISOR" mode shadow ${admin[@]+"${admin[@]}"} || fail "mode shadow" $?
"$PROVISOR" policy push "$policy" ${admin[@]+"${admin[@]}"} || fail "policy push" $?
stop_after push

from=$("$PROVISOR" why "$journal" --last --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["tick"])') \
    || fail why $?
step "shadow: from tick $from, for $shadow_s s"
sleep "$shadow_s"
"$PROVISOR" why "$journal" --shadow-gate --from-tick "$from"
code=$?
case $code in
    0) ;;
    1) step "refused: in shadow the new policy is expected to do worse; it stays in shadow"; exit 4 ;;
    *) fail "why --shadow-gate" $code ;;
esac
stop_after shadow

step "promote: the new policy drives"
"$PROVISOR" mode active ${admin[@]+"${admin[@]}"} || fail "mode active" $?
