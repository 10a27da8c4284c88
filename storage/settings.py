"""All settings, read once by the composition root from the environment and `.env`.

`.env.example`, these fields and the README's table are held equal by tests/test_docs.py.
"""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from storage.errors import ConfigurationError

SYSTEM_PROMPT = "You are a support assistant. Answer briefly and directly, in the customer's language."
TUNED_NAME, BASE_NAME = "tuned", "base"  # our engine's names; servers of others use other ones
ADAPTER = "{adapter}"
HOSTED = "hosted"  # as BASE_MODEL: the weights are where BASE_NAME is served, and are tuned there
Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """One immutable value for the whole process. Unknown variables of the environment are ignored."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    # Slack
    slack_bot_token: SecretStr = Field(SecretStr(""), description="bot token, starts with xoxb-")
    slack_app_token: SecretStr = Field(SecretStr(""), description="app-level token for Socket Mode, starts with xapp-")
    slack_signing_secret: SecretStr = Field(SecretStr(""), description="signing secret, needed in http mode")
    slack_api_url: str = Field("https://slack.com/api/", description="Web API address; the local workspace is another")
    slack_mode: Literal["socket", "http"] = Field("socket", description="how events arrive: socket or http")
    http_port: int = Field(3000, ge=1, le=65535, description="port of the bot in http mode")
    admins: Names = Field((), description="user ids (U…) and usergroup ids (S…) who may retrain, promote and roll back")
    agents: Names = Field((), description="user ids and usergroup ids whose ratings count as lessons")
    ops_channel: str = Field("", description="channel id for reports of scheduled runs; empty: none are posted")
    emoji_up: Names = Field(("+1", "white_check_mark", "heart"), description="reactions that mean a good answer")
    emoji_down: Names = Field(("-1", "x"), description="reactions that mean a bad answer")
    support_group: str = Field(
        "", description="usergroup id (S…) that is called when somebody asks for a person; empty: nobody is called"
    )
    link_domains: Names = Field(
        (), description="domains that answers may link to, such as help.acme.example; all other links stay text"
    )
    user_questions_per_minute: int = Field(6, ge=1, description="questions that one person may ask in a minute")
    channel_questions_per_minute: int = Field(30, ge=1, description="questions that one channel may ask in a minute")
    admit_doubt: bool = Field(
        True, description="say that it is not sure instead of guessing, below the threshold measured on the holdout"
    )
    far_questions: Literal["tuned", "base"] = Field(
        "tuned",
        description="who answers a question that is far from all lessons: tuned, or base alone (from the next run's champion on)",
    )

    # Data
    data_dir: Path = Field(Path("var"), description="folder of the ledger, adapters, datasets and reports")
    cache_dir: Path = Field(Path("var/cache"), description="folder of fetched base models and benchmarks")
    learn_from_slack: bool = Field(False, description="let rated Slack answers and corrections become lessons")
    system_prompt: str = Field(
        SYSTEM_PROMPT, description="first message of every prompt, in serving, training, scoring"
    )

    # Model
    base_model: str = Field(
        "embedded",
        description="embedded (SmolLM2-135M-Instruct), a folder, a hub name, or hosted: BASE_NAME, trained at BASE_URL",
    )
    base_shutdown: date | None = Field(
        None, description="day on which the hosted base ends, as 2027-01-14; empty: what its server or our table says"
    )
    engine_url: str = Field(
        "http://127.0.0.1:8601/v1", description="OpenAI-compatible server that speaks base and tuned"
    )
    engine_key: SecretStr = Field(SecretStr(""), description="API key of that server, if it wants one")
    tuned_url: str = Field("", description="server of tuned, where it is another than ENGINE_URL")
    tuned_key: SecretStr = Field(SecretStr(""), description="API key of TUNED_URL")
    tuned_name: str = Field(
        TUNED_NAME,
        pattern=r"^[^{}]*(\{adapter\}[^{}]*)?$",
        min_length=1,
        description="name of tuned there; with {adapter} in it, promoted adapters are loaded there under such names",
    )
    base_url: str = Field("", description="server of base, where it is another than ENGINE_URL")
    base_key: SecretStr = Field(SecretStr(""), description="API key of BASE_URL")
    base_name: str = Field(BASE_NAME, min_length=1, description="name of base there")
    adapters_root: str = Field("", description="folder of the adapters as the server of tuned sees it; empty: as we do")
    shadow_mode: Literal["auto", "paired", "deferred"] = Field(
        "auto",
        description="base speaks in the customer's passes (paired) or after them (deferred); auto: measured at start",
    )
    max_new_tokens: int = Field(160, ge=8, le=4096, description="longest answer, in tokens")
    answer_deadline_s: float = Field(120.0, gt=0, description="seconds until a question gets an honest failure note")
    answer_workers: int = Field(2, ge=1, le=32, description="questions that the bot works on at once")

    # Training
    training_profile: Literal["gentle", "standard", "strong"] = Field(
        "standard", description="how far a run may go from the base: gentle, standard or strong"
    )
    lora_rank: int = Field(16, description="LoRA rank")
    learning_rate: float | None = Field(
        None, description="LoRA learning rate; empty: by the model's width and the profile"
    )
    epochs: float | None = Field(None, description="passes over the training rows; empty: by the profile")
    batch_size: int = Field(16, description="rows of one optimiser step")
    max_tokens: int = Field(512, description="longest training row, in tokens")
    replay_share: float | None = Field(None, description="share of general rows in training; empty: by the profile")
    kl_weight: float | None = Field(None, description="pull of every answer token to the base; empty: by the profile")
    kl_budget: float = Field(
        0.0, description="stop before the model is so many nats a token from the base on general rows; 0: no budget"
    )
    entropy_gate: bool = Field(
        False, description="let tokens that the model is sure of and wrong about count less (EAFT)"
    )
    early_stop: bool = Field(False, description="stop when held-back lessons get worse, and keep the best state")
    own_replay: bool = Field(False, description="let the base itself answer the general rows that are replayed")
    scale: float | None = Field(
        None, description="how much of what was learnt is kept of the adapter, 1 is all; empty: by the profile"
    )
    scale_search: bool = Field(
        False, description="while the gate sees something lost, let it judge weaker copies of the adapter"
    )
    cut_intruders: bool = Field(
        False, description="after training, take most of it out that lies in directions which the base has nowhere near"
    )
    preferences: bool = Field(
        False, description="after the lessons, learn which answers people found better or worse (DPO or KTO)"
    )
    seed: int = Field(17, description="seed of sampling, shuffling and initialisation")
    min_lessons: int = Field(40, ge=1, description="fewest training rows that a run accepts")

    # Evaluation
    suite_items: int = Field(60, ge=8, description="items drawn from each general benchmark")
    target_items: int = Field(64, ge=8, description="holdout rows that are scored")
    target_generations: int = Field(32, ge=4, description="holdout rows that are answered in full for ROUGE and BLEU")
    general_tasks: Names = Field(
        ("arc_easy", "piqa", "sciq", "hellaswag"),
        description="general benchmarks: fetched ones, any lm-eval task, or one of yours in DATA_DIR/tasks",
    )
    judge_url: str = Field(
        "",
        description="OpenAI-compatible server that compares answers in scoring; texts are sent to it; empty: none is asked",
    )
    judge_key: SecretStr = Field(SecretStr(""), description="API key of that server, if it wants one")
    judge_model: str = Field("judge", description="name of the judging model there")
    margin_points: float = Field(7.5, gt=0, description="largest tolerated loss on a benchmark in per cent points")
    margin_bits: float = Field(2.0, gt=0, description="largest tolerated rise of bits per byte, in per cent of base")

    # The clock
    retrain_cron: str = Field("0 3 * * 1", description="crontab of scheduled runs in UTC; empty: none")
    retrain_after_lessons: int = Field(50, ge=0, description="start a run after so many new lessons; 0: never")
    auto_promote: bool = Field(True, description="let a PROMOTE decision go live without an admin's word")
    canary_percent: int = Field(
        100,
        ge=1,
        le=100,
        description="conversations that a new champion answers until the watch finds it no worse, in per cent",
    )
    watch_down_percent: int = Field(
        50,
        ge=5,
        le=100,
        description="share of 👎 among the team's votes that a new champion may have, in per cent; 100: any",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")

    @field_validator("admins", "agents", "emoji_up", "emoji_down", "link_domains", "general_tasks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip().strip(":") for part in value.split(",") if part.strip())
        return value

    @field_validator("learning_rate", "epochs", "replay_share", "kl_weight", "scale", "base_shutdown", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @model_validator(mode="after")
    def _names_fit_their_servers(self) -> "Settings":
        tuned_ours, base_ours = self.tuned_name == TUNED_NAME, self.base_name == BASE_NAME
        if self.is_hosted:
            if base_ours or not self.base_url:
                raise ValueError("BASE_MODEL=hosted: name its server in BASE_URL and the model there in BASE_NAME")
            if not tuned_ours:
                raise ValueError(f"TUNED_NAME={self.tuned_name}: leave it out, each run of a hosted base names its own")
            return self
        if base_ours and not tuned_ours:
            raise ValueError(f"TUNED_NAME={self.tuned_name} is another server's: name the base there in BASE_NAME, too")
        if tuned_ours and not base_ours and not self.base_url:
            raise ValueError(f"BASE_NAME={self.base_name} is another server's: name that server in BASE_URL")
        if self.tuned_name == self.base_name:
            raise ValueError(
                f"TUNED_NAME and BASE_NAME are both {self.base_name}: tuned and base need names of their own"
            )
        return self

    @property
    def is_hosted(self) -> bool:
        """Whether the weights are at a server that tunes them: none of them are here."""
        return self.base_model == HOSTED

    @property
    def ledger_path(self) -> Path:
        return self.data_dir / "evenkeel.db"

    @property
    def weights_dir(self) -> Path:
        """adapters/<digest>/ and checkpoints/<run>/."""
        return self.data_dir / "weights"

    @property
    def datasets_dir(self) -> Path:
        return self.data_dir / "datasets"

    @property
    def reports_dir(self) -> Path:
        return self.data_dir / "reports"

    @property
    def suite_dir(self) -> Path:
        """Where `evenkeel suite fetch` puts the real benchmarks."""
        return self.cache_dir / "suite"

    @property
    def tasks_dir(self) -> Path:
        """Where an operator's own benchmarks lie: task files and their rows."""
        return self.data_dir / "tasks"

    @property
    def base_dir(self) -> Path:
        """Fetched and converted base models, one folder each."""
        return self.cache_dir / "base"


def load_settings(**overrides: Any) -> Settings:
    """Settings from overrides, then environment, then `.env`, then defaults.

    Raises ConfigurationError that lists every faulty variable at once, with the value's type but never a secret.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = [f"  {'.'.join(map(str, e['loc'])).upper() or 'SETTINGS'}: {e['msg']}" for e in error.errors()]
        lines = "\n".join(faults)
        raise ConfigurationError(f"Settings that cannot be used:\n{lines}\nNext: compare with .env.example.") from None
