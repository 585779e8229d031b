"""A neutral adult from public anthropometry: where the joints of the SMPL-X tree are in a T-pose, and a hand at rest.

For those who have no SMPL-X model file, and not derived from one: lengths, breadths and heights are published means of
people, each with its source; where a joint lies between such landmarks is anatomy, said beside it. +x is the person's
left, +y up, +z front; metres, radians.
"""

import numpy as np

# Metres. ANSUR II, the means of its 4,082 men and 1,986 women together (Gordon et al., 2012 Anthropometric Survey of
# U.S. Army Personnel, NATICK/TR-15/007, a public report); heights are above the floor.
STATURE = 1.714
_TRAGION = STATURE - 0.130  # the ear: the skull turns on the spine at its height
_EYES = STATURE - 0.112
_CERVICALE = 1.477  # the lowest neck vertebra
_BREASTBONE = 1.403  # its upper end, between the collar bones
_ACROMION = 1.406  # the tip of the shoulder
_ILIAC_CREST = 1.040  # the fourth lumbar vertebra lies between the crests
_TROCHANTER = 0.883  # the hip joint lies at its height
_KNEE = 0.483
_ANKLE = 0.070
_SHOULDER_BREADTH, _HIP_BREADTH, _HAND_BREADTH, _PUPILS = 0.399, 0.348, 0.085, 0.063
_FOOT_LENGTH, _BALL_OF_FOOT = 0.263, 0.195  # from the heel
# From joint centre to joint centre, as fractions of stature, mean of women and men (de Leva, J. Biomechanics 29, 1996).
_UPPER_ARM, _FOREARM = 0.1602 * STATURE, 0.1534 * STATURE
# Gray's Anatomy (1918): the thoracic spine measures 28 cm, the lumbar spine 18.
_THORACIC, _LUMBAR = 0.28, 0.18
_VERTEBRA = _THORACIC / 12
# Metacarpal, proximal and middle phalanx, metres: Buryanov and Kotiuk, Int. J. Morphology 28 (2010), radiographs of 66
# adults. The last joint of a finger ends the chain; of the thumb it is the one above the nail.
_FINGER_BONES = {
    "index": (0.0681, 0.0398, 0.0224),
    "middle": (0.0646, 0.0446, 0.0263),
    "pinky": (0.0537, 0.0327, 0.0181),
    "ring": (0.0580, 0.0414, 0.0257),
    "thumb": (0.0462, 0.0316),
}
_CARPUS = 0.54 * 0.0646  # radius to metacarpals: 0.54 of the third metacarpal (Youm et al., J. Bone Joint Surg. 1978)
_KNUCKLE = {"index": 1, "middle": 0, "ring": -1, "pinky": -2}  # towards the thumb, in quarters of the hand's breadth

# Flexion of a hand at rest, degrees: knuckle, middle and last joint. From the "position of function" of hand surgery
# (knuckles 45, middle joints 30 to 45, last joints 10 to 20), flatter at the knuckles and rising from the index finger
# to the little one, as at rest. The middle joint of the left index finger is published for SMPL-X, too: -0.756 rad.
_REST_FLEXION = {"index": (25, 43, 15), "middle": (30, 43, 15), "ring": (35, 43, 15), "pinky": (40, 43, 15)}
_THUMB_OPPOSITION, _THUMB_FLEXION = 30, 15  # at its root, about the arm; at its two other joints
_THUMB_RADIAL, _THUMB_PALMAR = 45, 20  # degrees: where it points when the hand is flat, away from the fingers and down


def t_pose() -> dict[str, np.ndarray]:
    """Joint name -> (3,) metres, the pelvis at the origin: arms along the x axis, palms down, thumbs to the front.

    The names are those of the 55 SMPL-X joints: ours, with `jaw`, `left_eye` and `right_eye`.
    """
    spine_end = _CERVICALE - _THORACIC  # of its thoracic part
    sacrum = spine_end - _LUMBAR
    # Seen from the side, ear, shoulder and hip lie in one vertical, and the thoracic spine some centimetres behind it.
    middle = {
        "pelvis": (0, (_TROCHANTER + sacrum) / 2, 0),
        "spine1": (0, _ILIAC_CREST, 0),
        "spine2": (0, spine_end, -0.02),
        "spine3": (0, spine_end + 3 * _VERTEBRA, -0.03),
        "neck": (0, _CERVICALE, -0.03),
        "head": (0, _TRAGION, 0),
        "jaw": (0, _TRAGION - 0.01, 0.01),
    }
    # a quarter of the way from one side to the other (Weinhandl and O'Connor, J. Biomechanics 43, 2010)
    hip = _HIP_BREADTH / 4
    shoulder = _SHOULDER_BREADTH / 2 - 0.02  # the joint lies under the tip of the shoulder, and a little inside
    height = _ACROMION - 0.035  # of the joint, a tenth of the upper arm below the tip of the shoulder (de Leva)
    wrist = np.array([shoulder + _UPPER_ARM + _FOREARM, height, 0])
    left = {
        "hip": (hip, _TROCHANTER, 0),
        "knee": (hip, _KNEE, 0),
        "ankle": (hip, _ANKLE, 0),
        "foot": (hip, 0.02, _BALL_OF_FOOT - _FOOT_LENGTH / 4),  # the ankle: a quarter of the foot from the heel
        "collar": (0.025, _BREASTBONE, 0.03),  # beside the upper end of the breastbone
        "shoulder": (shoulder, height, 0),
        "elbow": (shoulder + _UPPER_ARM, height, 0),
        "wrist": wrist,
        "eye": (_PUPILS / 2, _EYES, 0.085),
    }
    left |= {name: wrist + place for name, place in _flat_hand().items()}
    mirror = np.array([-1, 1, 1])
    places = middle | {f"left_{name}": place for name, place in left.items()}
    places |= {f"right_{name}": mirror * place for name, place in left.items()}
    return {name: np.subtract(place, middle["pelvis"]) for name, place in places.items()}


def hands_at_rest() -> np.ndarray:
    """(2, 45) axis-angle radians: left and right hand, in the order of the joints, relaxed instead of flat."""
    hand = _left_hand_at_rest()
    # the mirror image of a rotation vector changes its sign but for the part along the mirrored axis
    return np.stack([hand, hand * (1, -1, -1)]).reshape(2, -1)


def _flat_hand() -> dict[str, np.ndarray]:
    """Joints of the left hand from its wrist: palm down, fingers along +x, the thumb in front."""
    places = {}
    for finger, bones in _FINGER_BONES.items():
        if finger == "thumb":
            radial, palmar = np.radians([_THUMB_RADIAL, _THUMB_PALMAR])
            along = np.array([np.cos(radial) * np.cos(palmar), -np.sin(palmar), np.sin(radial) * np.cos(palmar)])
            joint = np.array([0.030, -0.012, 0.027])  # at the thumb's end of the carpus, towards the palm
        else:
            reach, across = _CARPUS + bones[0], _KNUCKLE[finger] * _HAND_BREADTH / 4
            joint = np.array([np.sqrt(reach**2 - across**2), 0, across])
            # fingers of a hand that lies flat without force fan out half as much as the bones behind them
            fan = np.arctan2(across, joint[0]) / 2
            along = np.array([np.cos(fan), 0, np.sin(fan)])
            bones = bones[1:]
        places[f"{finger}1"] = joint
        for number, length in enumerate(bones, start=2):
            joint = joint + length * along
            places[f"{finger}{number}"] = joint
    return places


def _left_hand_at_rest() -> np.ndarray:
    """(15, 3) axis-angle radians of the left hand: fingers turn about -z, from +x to -y, where the palm looks."""
    hand = []
    for finger in _FINGER_BONES:
        if finger != "thumb":
            hand += [(0, 0, -np.radians(angle)) for angle in _REST_FLEXION[finger]]
            continue
        # The thumb first goes under the hand, about the arm; then it bends across the palm, towards the fingers: half
        # in the plane of the hand (about +y), half out of it.
        along = np.array([np.cos(np.radians(_THUMB_RADIAL)), 0, np.sin(np.radians(_THUMB_RADIAL))])
        up = np.array([0, 1, 0])
        bend = (up - np.cross(along, up)) / np.sqrt(2) * np.radians(_THUMB_FLEXION)
        hand += [(np.radians(_THUMB_OPPOSITION), 0, 0), bend, bend]
    return np.array(hand, np.float64)
