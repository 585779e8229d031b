"""The model: configurations, VQ-VAE sign tokenizer, LSLM."""

from .backbone_lslm import load_backbone, load_backbone_config, load_backbone_tokenizer
from .configuration_lslm import LslmConfig, SignMotionVQVAEConfig
from .modeling_lslm import LslmForConditionalGeneration, LslmModel, LslmPreTrainedModel
from .modeling_sign_motion import MotionEncoding, SignMotionVQVAE

__all__ = [
    "LslmConfig",
    "LslmForConditionalGeneration",
    "LslmModel",
    "LslmPreTrainedModel",
    "MotionEncoding",
    "SignMotionVQVAE",
    "SignMotionVQVAEConfig",
    "load_backbone",
    "load_backbone_config",
    "load_backbone_tokenizer",
]
