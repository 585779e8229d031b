"""From body to tensor, and back to text: motion files, motion features, processor, pipeline."""

from .feature_extraction_lslm import SignMotionFeatureExtractor
from .live import Caption, LiveTranslator, translate_stream
from .motion import Motion, MotionFileError, Remark, load_motion
from .motion_features import features_to_joints, joints_to_features
from .pipeline_lslm import SignTranslationPipeline
from .processing_lslm import SignMotionProcessor

__all__ = [
    "Caption",
    "LiveTranslator",
    "Motion",
    "MotionFileError",
    "Remark",
    "SignMotionFeatureExtractor",
    "SignMotionProcessor",
    "SignTranslationPipeline",
    "features_to_joints",
    "joints_to_features",
    "load_motion",
    "translate_stream",
]
