"""Package metadata. The folders modeling_lslm/, processing/, training/ and hub_cards/ are installed under `lslm.`."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# In a checkout lslm/ holds links to these folders: editors and type checkers follow them.
FOLDERS = ["modeling_lslm", "processing", "training", "hub_cards"]
PACKAGES = [f"lslm.{name}" for name in find_packages(ROOT, include=[f"{folder}*" for folder in FOLDERS])]
# Lower bounds work together: `make test-oldest`. Upper bounds are the release after the one tested: `make bump`.
TRANSFORMERS = "transformers>=5.16,<5.25"  # its minor releases break what builds on it
DATA = ["datasets>=5.1,<6"]  # streams that are divided by row group
PAGE = ["gradio>=6.31,<7"]
SCORES = ["sacrebleu>=2.4,<3", "rouge-score>=0.1.2,<0.2"]
# accelerate before 1.15 puts weights that it kept on disk into other layers; before 1.7 a run that is resumed within
# its second epoch shuffles as in its first
ADAPTER = ["peft>=0.18,<1", "accelerate>=1.15,<2"]
GGUF = ["gguf>=0.10,<1"]
QLORA = ["bitsandbytes>=0.49,<1"]
PARQUET = ["pyarrow>=24,<27"]
DECODER = ["av>=15,<19"]
TEMPLATES = ["jinja2>=3.1,<4"]

setup(
    name="lslm",
    version="0.1.0",
    description="Large Sign Language Models: 3D sign language motion to English, on Hugging Face transformers",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=["lslm", "lslm_cli", "lslm.hub_cards.space", *PACKAGES],
    package_dir={
        "lslm": "lslm",
        "lslm_cli": "lslm/cli",
        **{f"lslm.{name}": name for name in FOLDERS},
    },
    package_data={
        "lslm": ["py.typed"],
        "lslm.training": ["recipes/**/*.yaml"],
        "lslm.training.stages": ["templates/*.json"],
        "lslm.training.evaluation": ["report.html", "display.css", "skeleton.js"],
        "lslm.hub_cards": ["*.jinja", "*.yaml"],
        "lslm.hub_cards.space": ["*.css", "*.js", "*.html", "README.md", "requirements.txt"],
    },
    entry_points={"console_scripts": ["lslm = lslm_cli:main"]},
    # Translating needs these alone.
    install_requires=["torch>=2.11,<2.14", TRANSFORMERS, "numpy>=1.26,<3", "safetensors>=0.8,<1"],
    extras_require={
        # the shipped checkpoint is a LoRA adapter (peft) on a GGUF file, which transformers reads through gguf and
        # accelerate
        "demo": [*ADAPTER, *GGUF, *DATA, *SCORES, *TEMPLATES],
        "train": [
            *ADAPTER,
            *DATA,
            *SCORES,
            *TEMPLATES,
            "evaluate>=0.4,<1",
            "matplotlib>=3.9,<4",
            "tensorboard>=2.14,<3",
        ],
        "space": [*ADAPTER, *GGUF, *PAGE, *PARQUET],  # `lslm demo`
        "qlora": QLORA,  # load_in_4bit: true
        "trackio": ["trackio>=0.40,<1"],  # report_to: trackio
        "hub": [*TEMPLATES, *PARQUET],  # cards, and an example clip of the data
        # the last MediaPipe with Holistic and its models; it wants numpy below 2, and has no release for Python 3.13
        # with it pyarrow from 26 on does not run, though pip does not know it
        "video": ["mediapipe>=0.10.21,<0.10.22", *DECODER, "pyarrow<26,>=24"],
        "parquet": PARQUET,  # landmarks of Kaggle's asl-signs
        "dev": [
            *QLORA,
            *TEMPLATES,
            *PARQUET,
            *PAGE,
            *DECODER,
            # tools have no upper bound: constraints.txt says which are used here
            "jiwer>=4.0",
            "pytest>=8",
            "pytest-xdist>=3.8",
            "hypothesis>=6.0",
            "ruff>=0.9",
            "import-linter>=2.17",
            "basedpyright>=1.40",
            # .ci/versions.py; a dry run of this pip downloads no wheel
            "packaging>=24.0",
            "pip>=24.0",
            # what others read and write the same files with: tests compare, nothing else needs them
            "pose-format>=0.15",
            "pybvh>=0.9",
            "pygltflib>=1.16",
            "smplx>=0.1.28",
            "pre-commit>=3",
            # the demo page in a browser; the browser itself is the system's chromium
            "playwright>=1.50",
            "axe-playwright-python>=0.1.4",
        ],
    },
    zip_safe=False,
)
