"""`leadline.yaml`: what people declare. Every error names the path of the key and the way to mend it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from leadline import key_faults, redis_url
from leadline.durations import Duration, is_duration, short_duration


class ConfigError(Exception):
    """The configuration cannot be used. The text names the file, the path of each key, and what would be right."""


class Part(BaseModel):
    """A part of the configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Topics(Part):
    predictions: str = "leadline.predictions"
    labels: str = "leadline.labels"
    changes: str = "leadline.changes"
    digests: str = "leadline.digests"
    alerts: str = "leadline.alerts"
    rejected: str = "leadline.rejected"


class Security(Part):
    """TLS and SASL for Kafka. Values may be `${ENVIRONMENT_VARIABLE}`."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_location: Path | None = None
    certificate_location: Path | None = None
    key_location: Path | None = None
    key_password: SecretStr | None = None

    @model_validator(mode="after")
    def _whole(self) -> Security:
        """Half a login is no login: librdkafka would try Kerberos, or none at all."""
        login = {"mechanism": self.mechanism, "username": self.username, "password": self.password}
        if self.protocol.startswith("SASL"):
            if missing := [name for name, value in login.items() if value is None]:
                raise ValueError(f"{self.protocol} needs {', '.join(missing)}")
        elif given := [name for name, value in login.items() if value is not None]:
            raise ValueError(f"{', '.join(given)} given, but protocol is {self.protocol}; set protocol: SASL_SSL")
        return self

    def located(self, base: Path) -> Security:
        """With files relative to a folder, the configuration's own."""
        paths = ("ca_location", "certificate_location", "key_location")
        return self.model_copy(update={name: base / path for name in paths if (path := getattr(self, name))})

    def librdkafka(self) -> dict[str, Any]:
        """The same as configuration of librdkafka; holds secrets, so never log it. `ConfigError` for a file that cannot be read."""
        for name in ("ca_location", "certificate_location", "key_location"):
            path = getattr(self, name)
            if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
                raise ConfigError(f"kafka.security.{name}: {path} is no file that can be read; name a PEM file")
        values: dict[str, Any] = {
            "security.protocol": self.protocol,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password.get_secret_value() if self.password else None,
            "ssl.ca.location": str(self.ca_location) if self.ca_location else None,
            "ssl.certificate.location": str(self.certificate_location) if self.certificate_location else None,
            "ssl.key.location": str(self.key_location) if self.key_location else None,
            "ssl.key.password": self.key_password.get_secret_value() if self.key_password else None,
        }
        if self.protocol == "PLAINTEXT":
            return {}
        return {name: value for name, value in values.items() if value is not None}


class Kafka(Part):
    bootstrap_servers: str = Field(default="127.0.0.1:9092", min_length=1)
    group: str = "leadline"
    topics: Topics = Topics()
    partitions: int = Field(default=4, ge=1, le=1024, description="used when Leadline creates the topics")
    replication_factor: int = Field(default=1, ge=1, le=7)
    session_timeout: Duration = 30.0
    max_message_bytes: int = Field(default=1_048_576, ge=1024, description="larger input is rejected as `oversized`")
    security: Security = Security()


class Redis(Part):
    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    prefix: str = "leadline"

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: SecretStr) -> SecretStr:
        if fault := redis_url.fault(url.get_secret_value()):
            raise ValueError(fault)
        return url


class Join(Part):
    """How a label finds its prediction. All in event time."""

    delay_window: Duration = Field(
        default=48 * 3600.0, gt=0, le=31 * 86400, description="a label counts up to this long after its prediction"
    )
    early_tolerance: Duration = Field(
        default=300.0, ge=0, description="how much earlier than its prediction a label may be stamped"
    )
    late_retention: Duration | None = Field(
        default=None,
        ge=0,
        description="how long past the window a row is kept, to tell `late` from `orphan`; default: a quarter of it",
    )
    cache_rows: int = Field(
        default=1_000_000,
        ge=1000,
        description="rows a worker keeps in memory per partition; the rest is read from Redis",
    )
    max_future: Duration = Field(
        default=300.0, gt=0, description="a timestamp further ahead of the broker's clock is rejected"
    )
    max_jump: Duration = Field(
        default=3600.0,
        gt=0,
        description="one event further ahead than this does not move the watermark; three in a row do",
    )

    @property
    def kept_past_window(self) -> float:
        return self.delay_window / 4 if self.late_retention is None else self.late_retention


class Panes(Part):
    pane: Duration = Field(default=10.0, ge=0.1, le=3600, description="length of the shortest span a rule looks at")
    longest_span: Duration = Field(default=2 * 86400.0, description="how far back a rule looks")
    max_segment_values: int = Field(default=30, ge=1, description="per model; the rest is pooled as `other`")
    sample_per_second: float = Field(
        default=200.0, gt=0, description="scores, and losses, a second and model for the sequential detectors"
    )
    feature_sample_per_second: float = Field(
        default=20.0, gt=0, description="rows a second and model whose features go to the sequential detectors"
    )
    feature_values_per_second: float = Field(
        default=1000.0, gt=0, description="the same in values: a model with more features samples fewer rows"
    )
    days_kept: int = Field(
        default=2,
        ge=2,
        description="UTC days of counts that a judge keeps for each cell, the running one among them; a backtest keeps all",
    )
    silence_after: Duration | None = Field(
        default=900.0,
        gt=0,
        description="a known model that is quiet for so long, and twice its longest gap, raises an operational alert; null: never",
    )
    idle_after: Duration = Field(
        default=30.0, gt=0, description="processing time after which a silent partition no longer holds the clock"
    )


class Limits(Part):
    """Effect sizes that matter (statistics.md's table). Past them *and* past the noise floor a signal fires."""

    warn: float
    critical: float

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.critical < self.warn:
            raise ValueError(f"critical ({self.critical}) must not be below warn ({self.warn})")
        return self


class LiftLimits(Limits):
    """Relative changes of a business value that matter, and the direction that hurts."""

    direction: Literal["down", "up", "both"] = "down"


LIFT = {
    "ctr": LiftLimits(warn=0.005, critical=0.01),
    "conversion": LiftLimits(warn=0.003, critical=0.008),
    "revenue": LiftLimits(warn=0.002, critical=0.005),
}


class Rules(Part):
    """One default rule for each signal. `false_alarms` is the budget: pages that noise alone may cause in a month and model."""

    false_alarms_per_month: float = Field(default=1.0, gt=0)
    minimum_rows: int = Field(default=30, ge=5)
    minimum_per_class: int = Field(default=20, ge=2)
    resolve_after: Duration | None = Field(
        default=None,
        description="how long an incident must be quiet before it resolves; default: as soon as enough clean rows show it",
    )
    gone_after: Duration | None = Field(
        default=86_400.0,
        gt=0,
        description="an incident of a version or segment that has had no row for so long is resolved as `no more traffic`; null: never",
    )
    psi: Limits = Limits(warn=0.1, critical=0.2)
    score_psi: Limits = Limits(warn=0.1, critical=0.2)
    null_rate: Limits = Limits(warn=0.02, critical=0.05)
    invalid_rate: Limits = Limits(warn=0.01, critical=0.05)
    new_category_rate: Limits = Limits(warn=0.01, critical=0.05)
    mean_shift: Limits = Limits(warn=2.0, critical=3.0)
    score_mean_shift: Limits = Limits(warn=2.0, critical=3.0)
    out_of_distribution_rate: Limits = Limits(warn=0.05, critical=0.1)
    output_collapse: Limits = Limits(warn=0.8, critical=0.95)
    ece: Limits = Limits(warn=0.05, critical=0.1)
    auc: Limits = Limits(warn=0.05, critical=0.1)
    accuracy: Limits = Limits(warn=0.05, critical=0.1)
    false_negative_rate: Limits = Limits(warn=0.1, critical=0.2)
    precision: Limits = Limits(warn=0.1, critical=0.2)
    recall: Limits = Limits(warn=0.1, critical=0.2)
    f1: Limits = Limits(warn=0.1, critical=0.2)
    average_precision: Limits = Limits(warn=0.1, critical=0.2)
    log_loss: Limits = Limits(warn=0.1, critical=0.25)
    brier: Limits = Limits(warn=0.05, critical=0.1)
    macro_f1: Limits = Limits(warn=0.05, critical=0.1)
    mean_absolute_error: Limits = Limits(warn=0.25, critical=0.5)
    root_mean_squared_error: Limits = Limits(warn=0.25, critical=0.5)
    bias: Limits = Field(default=Limits(warn=0.25, critical=0.5), description="in the reference's RMSE")
    r2: Limits = Limits(warn=0.1, critical=0.2)
    label_rate: Limits = Limits(warn=0.1, critical=0.2)
    realised_minus_estimated: Limits = Limits(warn=0.05, critical=0.1)
    label_coverage: Limits = Field(
        default=Limits(warn=0.3, critical=0.6), description="share of the labels due by now that has not come"
    )
    label_coverage_learning: Duration = Field(
        default=86_400.0, gt=0, description="how long labels are watched before their coverage is judged"
    )
    fairness: Limits = Field(
        default=Limits(warn=0.1, critical=0.2), description="gap between groups past the reference's own gap"
    )
    lift: dict[str, LiftLimits] = Field(
        default=LIFT, description="relative change by name of the business value; a name without limits has no rule"
    )
    channels: tuple[str, ...] = Field(
        default=(),
        description="channels that alerts of this model are for; none: `default`. Sinks name the channels they take",
    )
    traffic_share: Limits = Field(
        default=Limits(warn=2.0, critical=4.0),
        description="a segment's share of the traffic against the same hours of the days before: so many times more, or less",
    )
    schema_rate: Limits = Limits(warn=0.01, critical=0.05)
    missing_rate: Limits = Field(
        default=Limits(warn=0.1, critical=0.5),
        description="rise of the share of rows without an optional field (say `confidence`) that nearly all rows of the baseline state",
    )
    adwin: bool = Field(
        default=True,
        description="ADWIN on score, features and loss; a change of the score opens an incident, the others are evidence",
    )
    sequential: bool = Field(
        default=True,
        description="e-detectors on score, features and loss, e-BH over the features: alarms within the false-alarm budget",
    )
    edetector: Limits = Field(
        default=Limits(warn=0.5, critical=1.0),
        description="distance of the mean from the reference's, in its standard deviations, that e-detectors of score and features report",
    )
    page_hinkley: float | None = Field(
        default=None,
        gt=0,
        description="threshold of a Page-Hinkley test on every stream, in standard deviations; null: none. It has no false-alarm budget",
    )
    embedding_norm_shift: Limits = Field(
        default=Limits(warn=0.15, critical=0.3), description="share of the baseline's mean norm"
    )
    confidence_shift: Limits = Field(
        default=Limits(warn=1.0, critical=2.0), description="in standard deviations of the baseline"
    )
    layer_shift: Limits = Field(
        default=Limits(warn=3.0, critical=6.0),
        description="mean or std of a layer's activations, in standard deviations of the baseline",
    )
    resource_growth: Limits = Field(
        default=Limits(warn=0.25, critical=0.5), description="growth of a resource's mean, as a share of the baseline's"
    )
    multivariate_drift: Limits = Field(
        default=Limits(warn=0.5, critical=1.0),
        description="growth of the mean reconstruction error, in standard deviations of the baseline",
    )
    entropy_spread: Limits = Field(
        default=Limits(warn=1.0, critical=2.0),
        description="growth of the standard deviation of the answers' entropy, as a share of the baseline's: 1 is twice",
    )
    predicted_positive_rate: Limits = Field(
        default=Limits(warn=0.1, critical=0.2), description="change of the share of positive answers"
    )
    predicted_share: Limits = Field(
        default=Limits(warn=0.1, critical=0.2), description="change of one class's share among the answers"
    )
    latency_shift: Limits | None = Field(
        default=None,
        description="rise of the share of requests slower than the baseline's p99; off; used where no SLO is given",
    )
    js_divergence: Limits = Field(default=Limits(warn=0.05, critical=0.1), description="nats, less what noise adds")
    ks: Limits = Field(
        default=Limits(warn=0.1, critical=0.2),
        description="gap of the distribution functions, of features and scores of 100 bins or more",
    )
    l_infinity: Limits = Field(
        default=Limits(warn=0.1, critical=0.2),
        description="change of one category's share, of features of more than 50 categories",
    )
    pipeline_fingerprint: Limits = Field(
        default=Limits(warn=0.01, critical=0.05), description="share of rows with an unknown fingerprint"
    )
    runtime_version: Limits = Field(
        default=Limits(warn=0.01, critical=2.0), description="share of rows with an unknown version; never critical"
    )
    refitted_scaler: bool = Field(
        default=True, description="features that come near N(0, 1) where the reference is far from it are named so"
    )
    disabled: tuple[str, ...] = ()


class Model(Part):
    """One model, by its id under `models:`. `"*"` holds for every model without an entry."""

    task: Literal["auto", "binary", "regression", "multiclass"] = "auto"
    reference: Path | None = Field(
        default=None, description="JSON of `leadline reference build`, or CSV/Parquet of training rows"
    )
    positive_label: str | float | bool | None = None
    threshold: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="score from which a prediction counts as positive where `prediction` is absent",
    )
    learn_rows: int = Field(default=2000, ge=100, description="without a reference, the first rows become the baseline")
    latency_slo_ms: float | None = Field(default=None, gt=0)
    business: tuple[str, ...] = Field(
        default=(),
        description="names of the label's business values to keep; or a mapping of names to {warn, critical, direction}, or to null",
    )
    lift: dict[str, LiftLimits] = Field(
        default_factory=dict, description="limits by business value, what a mapping under `business` fills"
    )
    control: str | None = Field(
        default=None,
        pattern=r"^[^=]+=.+$",
        description="`segment=value` of the control group: the segment's other values are compared with it",
    )
    protected: tuple[str, ...] = Field(
        default=(),
        description="segment names whose values are to be treated alike: gaps between them may raise incidents",
    )
    probes: tuple[str, ...] = Field(
        default=(), max_length=200, description="layers of the network whose `probes` are kept, beside the reference's"
    )
    resources: tuple[str, ...] = Field(
        default=(), max_length=50, description="names of the `resources` that are kept, beside the reference's"
    )
    rules: dict[str, Any] = Field(default_factory=dict, description="overrides of `rules:` for this model")

    @model_validator(mode="before")
    @classmethod
    def _limits_of_business_values(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("business"), dict):
            return values
        named = values["business"]
        limits = {name: value for name, value in named.items() if value is not None}
        return {**values, "business": tuple(named), "lift": {**values.get("lift", {}), **limits}}


class Observability(Part):
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_json: bool = False


class Config(Part):
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    join: Join = Join()
    panes: Panes = Panes()
    rules: Rules = Rules()
    models: dict[str, Model] = Field(default_factory=dict)
    sinks: tuple[dict[str, Any], ...] = ()
    logging: Observability = Observability()
    accept_new_state: bool = False
    rejected_original_bytes: int = Field(default=2048, ge=0, le=65536)

    def model_for(self, model_id: str) -> Model:
        return self.models.get(model_id) or self.models.get("*") or Model()

    def rules_for(self, model_id: str) -> Rules:
        model = self.model_for(model_id)
        if not model.rules and not model.lift:
            return self.rules
        merged = {**self.rules.model_dump(), **model.rules}
        return Rules.model_validate({**merged, "lift": {**merged["lift"], **model.lift}})

    @model_validator(mode="after")
    def _overrides_are_rules(self) -> Config:
        for model_id in self.models:
            try:
                self.rules_for(model_id)
            except ValidationError as error:
                raise ValueError(_describe(error, Rules, f"models.{model_id}.rules")) from None
        return self


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def _expand(value: Any, path: str) -> Any:
    """`${NAME}` and `${NAME:-default}` in any text, from the environment."""
    if isinstance(value, dict):
        return {key: _expand(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = os.environ.get(name, default)
        if found is None:
            raise ConfigError(
                f"{path}: the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            )
        return found

    return _VARIABLE.sub(replace, value)


def _describe(error: ValidationError, root: type[BaseModel], prefix: str = "") -> str:
    lines = []
    for item in error.errors():
        path = ".".join(filter(None, (prefix, *(str(part) for part in item["loc"])))) or "(top level)"
        if item["type"] == "value_error" and str(item["ctx"]["error"]).startswith("models."):
            lines.append(str(item["ctx"]["error"]))  # overrides of rules, which name their own keys
            continue
        parent = _model_at(root, item["loc"][:-1])
        field = parent.model_fields.get(str(item["loc"][-1])) if parent is not None and item["loc"] else None
        inner = field.annotation if field is not None else None
        within = list(inner.model_fields) if isinstance(inner, type) and issubclass(inner, BaseModel) else ()
        siblings = list(parent.model_fields) if parent is not None else ()
        timed = field is not None and is_duration(field)
        text = key_faults.words(item, siblings, within, timed=timed)
        quoted = item["type"] not in ("value_error", "extra_forbidden", "missing") and not isinstance(
            item["input"], dict
        )
        if quoted and "password" not in path and "url" not in path:
            given = item["input"]
            text += f" (got {short_duration(given) if timed and isinstance(given, float) else repr(given)})"
        lines.append(f"{path}: {text}")
    return "\n  ".join(lines)


def _model_at(root: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The part of the configuration in which a key stands."""
    current: type[BaseModel] | None = root
    for part in location:
        field = current.model_fields.get(str(part)) if current is not None else None
        annotation = field.annotation if field is not None else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            current = annotation
        elif str(part) == "models":
            current = Model  # and stays so under the model's id
        elif field is not None:
            return None
    return current


def _yaml_fault(error: yaml.YAMLError, text: str) -> str:
    """Where and what, without the line itself: it may hold a password."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be read"
    if mark is None:
        return str(problem)
    if isinstance(error, yaml.composer.ComposerError | yaml.constructor.ConstructorError):
        problem = "a text that begins with * or ! needs quotation marks"  # its own words quote the text
    words = f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    lines = text.splitlines()
    if mark.line < len(lines) and "${" in lines[mark.line]:
        words += '; inside { } write "${NAME}" with quotation marks'
    return words


def parse_config(text: str, where: str = "leadline.yaml") -> Config:
    """Reads YAML text. Raises ConfigError with every fault, each with its path."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {_yaml_fault(error, text)}") from None
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: the top level must be a mapping with keys such as kafka, redis, models")
    try:
        return Config.model_validate(_expand(raw, ""))
    except ValidationError as error:
        raise ConfigError(f"{where}:\n  {_describe(error, Config)}") from None


def load_config(path: Path | None) -> Config:
    """Reads the file; without one, `leadline.yaml` of the working directory if there is any, else the defaults."""
    if path is None:
        path = Path("leadline.yaml")
        if not path.exists():
            return Config()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; give a file that can be read with -c") from None
    config = parse_config(text, str(path))
    base = path.resolve().parent
    models = {
        name: model.model_copy(update={"reference": base / model.reference}) if model.reference else model
        for name, model in config.models.items()
    }
    kafka = config.kafka.model_copy(update={"security": config.kafka.security.located(base)})
    return config.model_copy(update={"models": models, "kafka": kafka})
