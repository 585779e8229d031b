"""The model: configurations, VQ-VAE sign tokenizer, LSLM."""

from .backbone_lslm import load_backbone, load_backbone_tokenizer
from .configuration_lslm import LslmConfig, SignMotionVQVAEConfig
from .modeling_lslm import LslmForConditionalGeneration, LslmModel, LslmPreTrainedModel
from .modeling_sign_motion import SignMotionVQVAE

__all__ = [
    "LslmConfig",
    "LslmForConditionalGeneration",
    "LslmModel",
    "LslmPreTrainedModel",
    "SignMotionVQVAE",
    "SignMotionVQVAEConfig",
    "load_backbone",
    "load_backbone_tokenizer",
]
