"""Files that want to run code when they are read, and a process that reads them and watches itself.

python tests/reliability/poisoned_files.py FOLDER 1    # prints one line of JSON
"""

import builtins
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.reliability.file_loaders import loaders

FLAG = "code_was_run"


class Call:
    """Pickled, it is a call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def payloads(flag):
    """Returns name -> object whose unpickling makes the flag's file, or wants to, in some way."""
    import importlib
    import runpy
    import shutil
    import socket

    import torch

    shell, code = f"touch {flag}", f"open({str(flag)!r}, 'w').close()"
    inner = io.BytesIO()
    torch.save(Call(os.system, shell), inner)
    return {
        "system": Call(os.system, shell),
        "popen": Call(subprocess.Popen, ["touch", str(flag)]),
        "eval": Call(builtins.eval, code),
        "exec": Call(builtins.exec, code),
        "open": Call(builtins.open, str(flag), "w"),
        "import": Call(importlib.import_module, "evil_module"),
        "dunder_import": Call(builtins.__import__, "evil_module"),
        "run_module": Call(runpy.run_path, str(Path(flag).parent / "evil_module.py")),
        "rmtree": Call(shutil.rmtree, str(Path(flag).parent / "precious")),
        "connect": Call(socket.create_connection, ("127.0.0.1", 9)),
        "getattr": Call(getattr, Call(importlib.import_module, "os"), "system"),
        "nested_pickle": Call(pickle.loads, pickle.dumps(Call(os.system, shell))),
        "nested_storage": Call(torch.storage._load_from_bytes, inner.getvalue()),
        "nested_load": Call(torch.load, io.BytesIO(inner.getvalue()), "cpu", pickle),
    }


def wrap(name, payload):
    """Returns suffix -> bytes of files that hold the payload, each in its way."""
    import numpy as np
    import torch

    state = {"state_dict": payload, "encoder": payload, "global_step": 1}
    zipped, legacy, array, arrays = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save(state, zipped)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    np.save(array, np.array([payload], dtype=object), allow_pickle=True)
    np.savez(arrays, features=np.array([payload], dtype=object))
    tar, outer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        for member in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(payload, protocol=2)
            info = tarfile.TarInfo(member)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    with zipfile.ZipFile(outer, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(payload, protocol=2))
        file.writestr("archive/version", "3\n")
        file.writestr("archive/inner.pt", zipped.getvalue())
    forms = {"zip": zipped, "legacy": legacy, "npy": array, "npz": arrays, "tar": tar, "in": outer}
    found = {f"{name}.{form}": file.getvalue() for form, file in forms.items()}
    return found | {f"{name}.raw{p}": pickle.dumps(payload, protocol=p) for p in (0, 2, 4)}


def texts(flag):
    """Returns name -> bytes of configs that name code."""
    call = f'["touch {flag}"]'
    yaml = [
        f"!!python/object/apply:os.system {call}\n",
        f"a: !!python/object/new:os.system {call}\n",
        "a: !!python/name:os.system\n",
        "a: !!python/module:evil_module\n",
    ]
    classes = [
        {"class_path": "os.system", "init_args": {"command": f"touch {flag}"}},
        {"_target_": "os.system", "command": f"touch {flag}"},
        {"_instantiator": "evil_module.run"},
        {"class": "os.system", "command": f"touch {flag}"},
        {"name": "os.system", "command": f"touch {flag}"},
    ]
    found = {f"tag{i}.text": text.encode() for i, text in enumerate(yaml)}
    for index, named in enumerate(classes):
        config = {"model": "JepaModel", "encoder": named, "predictor": named, "probe": named}
        world = {"model": "LatentWorldModel", "latents": named, "world_model": {"dynamics": named}}
        found[f"class{index}.text"] = json.dumps(config | {"model_type": "vjepa2"}).encode()
        found[f"encoder{index}.text"] = json.dumps(config).encode()
        found[f"world{index}.text"] = json.dumps(world | {"encoder": named}).encode()
    return found


def write_poison(folder):
    """Writes all poisoned contents to a folder; returns how many."""
    (folder / "precious").mkdir(parents=True)
    (folder / "precious" / "file").write_text("stays")
    (folder / "evil_module.py").write_text(
        f"open({str(folder / FLAG)!r}, 'w').close()\n\ndef run(*_, **__):\n    import os\n"
    )
    (folder / "poison").mkdir()
    contents = texts(folder / FLAG)
    for name, payload in payloads(folder / FLAG).items():
        try:
            contents |= wrap(name, payload)
        except TypeError:  # of a kind that pickle itself refuses to write
            contents[f"{name}.raw0"] = pickle.dumps(Call(os.system, f"touch {folder / FLAG}"))
    for name, content in contents.items():
        (folder / "poison" / name).write_bytes(content)
    return len(contents)


WATCHED = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "shutil.rmtree")


class Watch:
    """Notes, while it is on, what a loader does that no loader should."""

    def __init__(self):
        self.is_on, self.seen = False, []
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if not self.is_on:
            return
        told = None
        if event in WATCHED or event.startswith("socket.connect"):
            told = event
        elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            told = f"open {arguments[0]} {arguments[1]}"
        elif event == "pickle.find_class" and "torch" not in str(arguments[0]):
            told = f"find_class {arguments}"
        elif event == "import" and "evil" in str(arguments[0]):
            told = f"import {arguments[0]}"
        elif event == "exec" and "evil" in arguments[0].co_filename:
            told = f"exec {arguments[0].co_filename}"
        if told:
            self.seen.append(told)


def read_all(folder, *, every=1):
    """Reads every poisoned content with every loader; returns what was seen.

    Args:
        folder: with good/ and poison/.
        every: read only each so many-th pair of a loader and a content.
    """
    import shutil

    sys.path.insert(0, str(folder))  # so that a module of the stranger could be found
    watch, problems, unclear, num_read = Watch(), [], [], 0
    example = folder / "example"
    contents = sorted((folder / "poison").iterdir())
    for number, (name, (place, load)) in enumerate(loaders().items()):
        for content in contents[number % every :: every]:
            shutil.rmtree(example, ignore_errors=True)
            path = example / place
            path.parent.mkdir(parents=True)
            make_company(path, folder)
            shutil.copyfile(content, path)
            watch.seen.clear()
            watch.is_on = True
            said = None
            try:
                load(path)
            except (ValueError, OSError) as error:
                said = str(error)
            except Exception as error:
                said = None
                unclear.append((name, content.name, f"{type(error).__name__}: {error}"))
            else:
                if not content.name.endswith(".text"):
                    problems.append((name, content.name, "accepted"))
            watch.is_on = False
            num_read += 1
            if said is not None and ("\n" in said or len(said) > 600):
                unclear.append((name, content.name, said))
            problems += [(name, content.name, one) for one in watch.seen]
            if (folder / FLAG).exists():
                problems.append((name, content.name, "its code was run"))
                (folder / FLAG).unlink()
    return {"read": num_read, "problems": problems, "unclear": unclear}


def make_company(path, folder):
    """Puts the files beside it without which a loader would not look at this one."""
    import shutil

    if path.name in ("config.json", "model.safetensors", "sha256.json"):
        for file in (folder / "good").iterdir():
            shutil.copy(file, path.parent)
        if path.name != "sha256.json":
            (path.parent / "sha256.json").unlink()
    if path.name in ("model.safetensors.index.json", "pytorch_model.bin"):
        config = {"model_type": "vjepa2", "hidden_size": 24, "num_attention_heads": 2}
        (path.parent / "config.json").write_text(json.dumps(config))
    if path.name in ("rows.npz", "features.npy"):
        meta = {"format": "jepa-features-1", "shape": [1, 1, 1, 1], "dtype": "float16"}
        (path.parent / "meta.json").write_text(json.dumps(meta))


if __name__ == "__main__":
    print(json.dumps(read_all(Path(sys.argv[1]), every=int(sys.argv[2]))))
