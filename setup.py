"""Package metadata. The folders modeling_lslm/, processing/, training/ and hub_cards/ are installed under `lslm.`."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
SUBPACKAGES = ["modeling_lslm", "processing", "training", "hub_cards"]
SPACE = "lslm.hub_cards.space"
METRICS = "lslm.training.sign_translation_metrics"
DATA = ["datasets>=5.0"]  # streams that are divided by row group
PAGE = ["gradio>=6.31,<7"]
SCORES = ["sacrebleu>=2.4", "rouge-score>=0.1.2"]
ADAPTER = ["peft>=0.17", "accelerate>=1.1"]

setup(
    name="lslm",
    version="0.1.0",
    description="Large Sign Language Models: 3D sign language motion to English, on Hugging Face transformers",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=["lslm", "lslm_cli", *(f"lslm.{name}" for name in SUBPACKAGES), METRICS, SPACE],
    package_dir={
        "lslm": "lslm",
        "lslm_cli": "lslm/cli",
        **{f"lslm.{name}": name for name in SUBPACKAGES},
        SPACE: "hub_cards/space",
    },
    package_data={
        "lslm": ["py.typed"],
        "lslm.training": ["recipes/**/*.yaml", "templates/*.json", "report.html"],
        "lslm.hub_cards": ["*.jinja", "vocabulary.json"],
        SPACE: ["page.css", "player.html", "player.js", "README.md", "requirements.txt"],
    },
    entry_points={"console_scripts": ["lslm = lslm_cli:main"]},
    # Translating needs these alone.
    install_requires=["torch>=2.11,<2.14", "transformers>=5.16,<6", "numpy>=1.26", "safetensors>=0.4"],
    extras_require={
        # the shipped checkpoint is a LoRA adapter (peft) on a GGUF file, which transformers reads through gguf and
        # accelerate
        "demo": [*ADAPTER, "gguf>=0.10", *DATA, *SCORES],
        "train": [*ADAPTER, *DATA, *SCORES, "evaluate>=0.4", "matplotlib>=3.8", "tensorboard>=2.14"],
        "space": [*ADAPTER, "gguf>=0.10", *PAGE],  # `lslm demo`
        "qlora": ["bitsandbytes>=0.49"],  # load_in_4bit: true
        "trackio": ["trackio>=0.40"],  # report_to: trackio
        "hub": ["jinja2>=3.1"],  # cards
        "parquet": ["pyarrow>=15"],  # landmarks of Kaggle's asl-signs
        "cluster": [*DATA, "datatrove>=0.10.1,<0.11"],  # `lslm data build --executor`; with ray: datatrove[ray]
        "bertscore": ["bert-score>=0.3.13"],  # `lslm score --bertscore`
        "dev": [
            "bitsandbytes>=0.49",
            "datatrove>=0.10.1,<0.11",
            "jinja2>=3.1",
            "jiwer>=4.0",
            "pytest>=8",
            "pytest-xdist>=3",
            "hypothesis>=6",
            "ruff>=0.9",
            # what others read and write the same files with: tests compare, nothing else needs them
            "pose-format>=0.15",
            "pybvh>=0.9",
            "pygltflib>=1.16",
            "smplx>=0.1.28",
            "pre-commit>=3",
            *PAGE,
            # the demo page in a browser; the browser itself is the system's chromium
            "playwright>=1.50",
            "axe-playwright-python>=0.1.4",
        ],
    },
    zip_safe=False,
)
