"""Models by name from the Hugging Face hub, safetensors only: ``hf:ORG/NAME`` and ``open_clip:ARCH/TAG``."""

from __future__ import annotations

from pathlib import Path

from diptych.core.errors import DiptychError, UsageError, nearest

# open_clip's released names whose towers are its own and whose repositories hold safetensors.
OPEN_CLIP = {
    "ViT-B-32/laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "ViT-B-32-256/datacomp_s34b_b86k": "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
    "ViT-B-32/datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
    "ViT-B-16/laion2b_s34b_b88k": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    "ViT-B-16/datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
    "ViT-L-14/laion2b_s32b_b82k": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "ViT-L-14/datacomp_xl_s13b_b90k": "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    "ViT-H-14/laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "ViT-g-14/laion2b_s34b_b88k": "laion/CLIP-ViT-g-14-laion2B-s34B-b88K",
    "ViT-bigG-14/laion2b_s39b_b160k": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
}
FILES = {"hf": ["*.json", "*.safetensors", "*.txt"], "open_clip": ["*.json", "open_clip*.safetensors", "*.txt"]}


def repository(name: str) -> str:
    """The hub's ``ORG/NAME`` behind ``hf:…`` or ``open_clip:…``. Raises :class:`UsageError` for a name that is not known or not whole."""
    prefix, _, rest = name.partition(":")
    if prefix == "open_clip":
        if rest not in OPEN_CLIP:
            raise UsageError(
                f"model {name!r}", "not one of the released names known here", f"{nearest(rest, OPEN_CLIP)}; or use hf:ORG/NAME"
            )
        return OPEN_CLIP[rest]
    if rest.count("/") != 1 or not all(rest.split("/")):
        raise UsageError(f"model {name!r}", "a hub model is named ORG/NAME", "Write for example hf:openai/clip-vit-base-patch32")
    return rest


def download(name: str) -> Path:
    """Fetch a model's JSON, text and safetensors files into the hub's cache; the folder that then holds them.

    Raises:
        DiptychError: the hub cannot be reached or refuses, or the repository holds no safetensors.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo = repository(name)
    try:
        folder = Path(snapshot_download(repo, allow_patterns=FILES[name.partition(":")[0]]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DiptychError(f"downloading {repo}", why, "Check name and network, or copy the model folder here and give its path") from error
    if not any(path.name != "golden.safetensors" for path in folder.glob("*.safetensors")):
        why = "the repository holds no safetensors, and pickled weights can run code when they are read"
        mend = "Convert them where you trust them (transformers: model.save_pretrained(FOLDER)) and load that folder"
        raise DiptychError(f"model {name!r}", why, mend)
    return folder
