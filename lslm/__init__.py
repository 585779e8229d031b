"""LSLM: large sign language models. 3D sign language motion to English, on Hugging Face transformers.

Importing this package registers LSLM with transformers: `AutoModel.from_pretrained(folder)`, `AutoProcessor`, and
`pipeline("sign-translation", model=folder)` work from then on.
"""

import os as _os

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForMultimodalLM, AutoProcessor

# In a source checkout the sub-packages lie beside this folder, not in it.
_root = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if not _os.path.isdir(_os.path.join(_os.path.dirname(__file__), "modeling_lslm")) and _os.path.isfile(
    _os.path.join(_root, "modeling_lslm", "modeling_lslm.py")
):
    __path__.append(_root)

from .modeling_lslm import (  # noqa: E402
    LslmConfig,
    LslmForConditionalGeneration,
    LslmModel,
    SignMotionVQVAE,
    SignMotionVQVAEConfig,
)
from .processing import (  # noqa: E402
    Motion,
    SignMotionFeatureExtractor,
    SignMotionProcessor,
    SignTranslationPipeline,
    features_to_joints,
    joints_to_features,
    load_motion,
)
from .processing.pipeline_lslm import register_pipeline as _register_pipeline  # noqa: E402

__version__ = "0.1.0"

AutoConfig.register("lslm", LslmConfig, exist_ok=True)
AutoConfig.register("sign_motion_vqvae", SignMotionVQVAEConfig, exist_ok=True)
AutoModel.register(LslmConfig, LslmForConditionalGeneration, exist_ok=True)
AutoModelForMultimodalLM.register(LslmConfig, LslmForConditionalGeneration, exist_ok=True)
AutoModel.register(SignMotionVQVAEConfig, SignMotionVQVAE, exist_ok=True)
AutoProcessor.register(LslmConfig, SignMotionProcessor, exist_ok=True)
AutoFeatureExtractor.register(LslmConfig, SignMotionFeatureExtractor, exist_ok=True)
AutoFeatureExtractor.register(SignMotionVQVAEConfig, SignMotionFeatureExtractor, exist_ok=True)
_register_pipeline(AutoModel)

__all__ = [
    "LslmConfig",
    "LslmForConditionalGeneration",
    "LslmModel",
    "Motion",
    "SignMotionFeatureExtractor",
    "SignMotionProcessor",
    "SignMotionVQVAE",
    "SignMotionVQVAEConfig",
    "SignTranslationPipeline",
    "features_to_joints",
    "joints_to_features",
    "load_motion",
]
