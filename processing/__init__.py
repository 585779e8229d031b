"""From body to tensor, and back to text: motion files, motion features, processor, pipeline."""

from .feature_extraction_lslm import SignMotionFeatureExtractor
from .motion_features import features_to_joints, joints_to_features
from .motion_formats import Motion, load_motion
from .pipeline_lslm import SignTranslationPipeline
from .processing_lslm import SignMotionProcessor

__all__ = [
    "Motion",
    "SignMotionFeatureExtractor",
    "SignMotionProcessor",
    "SignTranslationPipeline",
    "features_to_joints",
    "joints_to_features",
    "load_motion",
]
