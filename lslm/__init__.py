"""LSLM: large sign language models. 3D sign language motion to English, on Hugging Face transformers.

Importing this package registers LSLM with transformers: `AutoModel.from_pretrained(folder)`, `AutoProcessor`, and
`pipeline("sign-translation", model=folder)` work from then on.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForMultimodalLM, AutoProcessor

from .modeling_lslm import (
    LslmConfig,
    LslmForConditionalGeneration,
    LslmModel,
    SignMotionVQVAE,
    SignMotionVQVAEConfig,
)
from .processing import (
    Caption,
    LiveTranslator,
    Motion,
    SignMotionFeatureExtractor,
    SignMotionProcessor,
    SignTranslationPipeline,
    features_to_joints,
    joints_to_features,
    load_motion,
    translate_stream,
)
from .processing.pipeline_lslm import register_pipeline as _register_pipeline

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
    "Caption",
    "LiveTranslator",
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
    "translate_stream",
]
