"""The `jepa` command: one verb, one module, imported only when the verb is called.

The table holds names, so that this file imports neither torch nor the packages it starts; it is
the one place that knows them all.
"""

from __future__ import annotations

import difflib
import importlib
import itertools
import re
import sys
from typing import NamedTuple

from jepa import command_line
from jepa.version import __version__


class Verb(NamedTuple):
    """What a verb starts.

    Attributes:
        module: has a `main(argv: list[str]) -> int`.
        summary: one line for the help text.
        keeps_verb: the verb is the first argument of `main` (one module, several verbs).
        standalone: `main` can also be started without `jepa`: it reads --debug itself, and takes
            the name by which it was called.
        fault_code: the exit code of a fault of ours; not 1 where 1 is a result of the verb.
    """

    module: str
    summary: str
    keeps_verb: bool = False
    standalone: bool = False
    fault_code: int = 1


VERBS = {
    "demo": Verb("jepa.demo.__main__", "video to goals reached, on a CPU, in a few minutes"),
    "doctor": Verb("jepa.doctor", "what this machine has, what is missing and what that costs"),
    "data": Verb(
        "data_pipelines.__main__", "make, pack, check and look at video shards", standalone=True
    ),
    "fit": Verb("jepa.lightning_cli", "train from a config", keeps_verb=True),
    "estimate": Verb("jepa.scaling.__main__", "what a pretraining run will cost, before it starts"),
    "validate": Verb("jepa.lightning_cli", "one pass over the validation data", keeps_verb=True),
    "test": Verb("jepa.lightning_cli", "one pass over the test data", keeps_verb=True),
    "predict": Verb("jepa.lightning_cli", "representations of your own videos", keeps_verb=True),
    "probe": Verb("jepa.evaluation.__main__", "how good a representation is"),
    "dense": Verb("jepa.evaluation.dense.__main__", "what patches know: masks, depth, tracks"),
    "anticipate": Verb("jepa.evaluation.anticipation.__main__", "which action comes next"),
    "surprise": Verb("jepa.evaluation.surprise.__main__", "does the impossible surprise it"),
    "world-model": Verb(
        "jepa.evaluation.world_model_card.__main__", "the report card of a world model"
    ),
    "health": Verb("jepa.evaluation.health.__main__", "has it collapsed?"),
    "report": Verb("jepa.evaluation.report.__main__", "all of that, on one page"),
    "convert": Verb(
        "jepa.checkpoints.__main__", "official, Hugging Face and timm weights, in and out"
    ),
    "export": Verb("jepa.export", "encoder and predictors for torch.export and ONNX"),
    "plan": Verb("planning.__main__", "actions that reach a goal image", fault_code=3),
}
# `jepa predict` on files of one's own needs no config.
PREDICT_FILES = Verb("jepa.feature_extraction", "tokens of videos and images")
# `jepa data collect` of an environment of ours; data_pipelines knows those of Gymnasium only.
COLLECT = Verb("planning.verbs.collect", "our environments into trajectory shards")


def main(argv: list[str] | None = None) -> int:
    """Starts the verb named by the first argument.

    Args:
        argv: the arguments after the program's name; the process's own if None.

    Returns:
        The exit code: 0 done, 2 something the user can mend, 1 a fault of ours (3 of `plan`,
        where 1 is a result), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    verb = VERBS.get(arguments[0]) if arguments else None
    return command_line.run(
        lambda args: _dispatch(args, debug=debug),
        arguments,
        debug=debug,
        fault_code=1 if verb is None else verb.fault_code,
    )


def _dispatch(arguments: list[str], *, debug: bool) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if arguments[0] in ("-V", "--version", "version"):
        print(f"jepa {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in VERBS:
        print(f"error: {unknown_verb(name)}", file=sys.stderr)
        return 2
    verb = VERBS[name]
    if name == "predict" and _names_files(rest):
        verb = PREDICT_FILES
    if name == "data" and _collects_ours(rest):
        verb = COLLECT
    if verb.keeps_verb:
        rest = [name, *rest]
    with command_line.ended_at_once_by_interrupt():
        start = importlib.import_module(verb.module).main
    if not verb.standalone:
        return start(rest)
    return start([*rest, "--debug"] if debug else rest, program=f"jepa {name}")


def _names_files(options: list[str]) -> bool:
    """True if videos or images are named, or if the options of `jepa predict` are asked for."""
    named = {option.partition("=")[0] for option in options}
    return named <= {"-h", "--help"} or not named.isdisjoint(("--video", "--image"))


def _collects_ours(words: list[str]) -> bool:
    """True if `collect` names an environment of ours: Gymnasium's have a version, or a module."""
    if words[:1] != ["collect"]:
        return False
    named = [word.partition("=")[2] for word in words if word.startswith("--env=")]
    named += [after for word, after in itertools.pairwise(words) if word == "--env"]
    return bool(named) and re.search(r":|-v\d+$", named[-1]) is None


def help_text() -> str:
    """The page that `jepa --help` prints."""
    width = max(map(len, VERBS))
    lines = [
        "usage: jepa VERB [options]      (jepa VERB --help tells the options of one verb)",
        "",
        "JEPA video representations and planning in latent space.",
        "",
        *(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()),
        "",
        "  --version  the version",
        "  --debug    with any verb: the whole traceback of an error",
        "",
        "A first look: jepa doctor, then jepa demo, then jepa fit --config pretrain/tiny.yaml",
    ]
    return "\n".join(lines)


def unknown_verb(name: str) -> str:
    """Says that there is no such verb, and which one was probably meant."""
    close = difflib.get_close_matches(name, VERBS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(VERBS)}"
    return f"jepa has no verb {name!r}; {hint} (jepa --help lists them)"


if __name__ == "__main__":
    sys.exit(main())
