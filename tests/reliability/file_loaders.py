"""All that reads files of strangers, by name; test_poisoned_files.py says what they are given."""

import argparse
import importlib.util


def loaders():
    """Returns name -> (where the content goes, function): all that reads files of strangers."""
    import jepa
    from data_pipelines.shard_index import ShardIndex
    from jepa.checkpoint_file import check_checkpoint, newest_good
    from jepa.checkpoint_saving import AtomicCheckpointIO
    from jepa.checkpoints import native, official, official_config, official_probe
    from jepa.checkpoints.frame_encoders import load_frame_encoder
    from jepa.checkpoints.huggingface import read_huggingface
    from jepa.evaluation.attentive_probe import load_probe
    from jepa.evaluation.feature_store import FeatureStore
    from jepa.evaluation.surprise.models import load_predicting_model
    from jepa.training.starting_weights import read_checkpoint
    from planning.benchmarking.protocol_card import ProtocolCard
    from planning.costs.latent_banks import LatentBank
    from planning.evaluation import TaskSet
    from planning.verbs.options import options_of_config

    def features(folder):
        store = FeatureStore.open(folder)
        return store.as_set()

    def options_of(path):
        return options_of_config(str(path), verb=argparse.ArgumentParser())

    def timm_file(path):
        return load_frame_encoder(f"timm:test_vit@32:{path}")

    found = {
        f"from_pretrained {suffix}": (f"x{suffix}", jepa.from_pretrained)
        for suffix in (".pt", ".pth", ".tar", ".bin", ".ckpt")
    }
    for place in ("config.json", "model.safetensors", "sha256.json"):
        found[f"from_pretrained {place}"] = (place, lambda path: jepa.from_pretrained(path.parent))
        found[f"load_encoder {place}"] = (place, lambda path: native.load_encoder(path.parent))
        found[f"load_world {place}"] = (place, lambda path: native.load_world_model(path.parent))
        found[f"load_probe {place}"] = (place, lambda path: load_probe(path.parent))
    index = "model.safetensors.index.json"
    dcp = "last.ckpt/.metadata"
    return found | {
        "resume": ("last.ckpt", lambda path: check_checkpoint(path, resumes=True)),
        "resume last": ("last.ckpt", lambda path: newest_good([path], resumes=True)),
        "resume a folder of DCP": (dcp, lambda path: check_checkpoint(path.parent, resumes=True)),
        "resume, Lightning": ("last.ckpt", AtomicCheckpointIO().load_checkpoint),
        "--from": ("last.ckpt", read_checkpoint),
        "read_official": ("x.pt", official.read_official),
        "official probes": ("x.pt", official_probe.read_official_probes),
        "official config": ("config.json", official_config.OfficialConfig.read),
        "huggingface config": ("config.json", lambda path: read_huggingface(path.parent)),
        "huggingface index": (index, lambda path: read_huggingface(path.parent)),
        "huggingface bin": ("pytorch_model.bin", lambda path: read_huggingface(path.parent)),
        "frame encoder": ("x.pt", lambda path: load_frame_encoder(str(path))),
        "timm .pth": ("x.pth", timm_file),
        "timm .safetensors": ("x.safetensors", timm_file),
        "surprise": ("x.pt", load_predicting_model),
        "features, meta": ("meta.json", lambda path: features(path.parent)),
        "features, rows": ("rows.npz", lambda path: features(path.parent)),
        "features, array": ("features.npy", lambda path: features(path.parent)),
        "latent bank": ("bank.safetensors", LatentBank.load),
        "task set": ("tasks.json", TaskSet.load),
        "protocol card": ("x.yaml", ProtocolCard.load),
        "options of a config": ("x.yaml", options_of),
        "shard index": ("index.json", lambda path: ShardIndex.load(path.parent)),
        "shard": ("shard-000000.tar", lambda path: ShardIndex.load(path.parent)),
        **loaders_of_data(),
        **loaders_of_plans(),
    }


def loaders_of_data():
    """As `loaders`: what reads data sets that others published."""
    from data_pipelines import lerobot_layout
    from data_pipelines.dense_labels import read_dense_clip
    from data_pipelines.dense_readers.base import open_dense
    from data_pipelines.dense_readers.plain_pickle import read_plain_pickle
    from data_pipelines.images import decode_image, read_image, read_pixel_values
    from data_pipelines.importers import hdf5, lerobot
    from data_pipelines.parquet import ParquetReader
    from data_pipelines.physics_videos import index
    from data_pipelines.samples import Member, Sample
    from data_pipelines.shard_reader import ShardReader
    from data_pipelines.video_sources import read_list

    def member(path):
        sample = Sample("key", str(path), {"npy": Member(0, path.stat().st_size)})
        return ShardReader().read_array(sample, "npy")

    def listed(path):  # words are names of videos: they are looked for
        if not all((path.parent / video.path).is_file() for video in read_list(path)):
            raise FileNotFoundError("no such video")

    def videos_of_pickle(path):
        if isinstance(read_plain_pickle(path), int):  # the number that torch.save begins with
            raise ValueError("no videos")

    info = lerobot_layout.INFO_PATH
    found = {
        f"dense labels {suffix}": (f"x{suffix}", open_dense)
        for suffix in (".pkl", ".npz", ".mat", ".json")
    }
    if importlib.util.find_spec("h5py"):
        importlib.import_module("h5py")  # asks the system what machine it is
        found["HDF5"] = ("x.hdf5", hdf5.open_source)
    if importlib.util.find_spec("pyarrow"):
        found["Parquet"] = ("x.parquet", ParquetReader)
        found["a list of videos, Parquet"] = ("x.parquet", listed)
    return found | {
        "plain pickle": ("x.pkl", videos_of_pickle),
        "dense clip": ("x.npz", read_dense_clip),
        "array of a shard": ("shard-000000.tar", member),
        "LeRobot, JSON": (info, lambda path: lerobot_layout.load_info(path.parents[1])),
        "LeRobot": (info, lambda path: lerobot.open_source(path.parents[1])),
        "physics index": ("index.json", lambda path: index.read(path.parent)),
        "image": ("x.png", read_image),
        "image, its bytes": ("x.png", lambda path: decode_image(path.read_bytes(), "x.png")),
        "pixel values": ("x.png", read_pixel_values),
        "a list of videos": ("x.txt", listed),
        "a list of videos, CSV": ("x.csv", listed),
    }


def loaders_of_plans():
    """As `loaders`: what `jepa plan` reads besides world models."""
    from planning.benchmarking.run_folder import RunFolder
    from planning.goal_images import read_goal_image
    from planning.safety.black_box import read_black_box
    from planning.safety.robot_limits import RobotLimits
    from planning.verbs.freeze import options_of

    def option(path):
        value = options_of([f"layout={path.read_text('latin1') or '[]'}"])["layout"]
        if isinstance(value, str):  # plain words: whoever takes the option says what is allowed
            raise ValueError("no layout")

    return {
        "goal image": ("x.png", lambda path: read_goal_image(path, image_size=64)),
        "run folder": ("summary.json", lambda path: RunFolder.load(path.parent)),
        "black box": ("x.bin", read_black_box),
        "robot's limits": ("x.yaml", RobotLimits.load),
        "--env-option": ("x.text", option),
    }
