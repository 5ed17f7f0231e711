import math
from pathlib import Path

import pytest
import yaml

from configs.describe import chosen
from configs.errors import ConfigError
from configs.load import compose, digest, keys_of, options, plain, read_config, to_yaml, validate
from configs.schema import WORKLOADS, CatBoostConfig, FakeConfig, Norms, VitConfig


@pytest.mark.parametrize("workload", WORKLOADS)
def test_without_overrides_a_workload_is_what_its_schema_says(workload: str) -> None:
    config = compose([f"workload={workload}"])
    assert config == WORKLOADS[workload]()


def test_overrides_reach_the_typed_configuration() -> None:
    config = compose(["workload=vit", "train.epochs=2", "optimizer.lr=1e-3", "seed=7", "tags=[a,b]"])
    assert isinstance(config, VitConfig)
    assert (config.train.epochs, config.optimizer.lr, config.seed, config.tags) == (2, 1e-3, 7, ["a", "b"])


def test_a_preset_changes_the_model_with_the_data_and_an_override_wins_over_it() -> None:
    config = compose(["data=cifar10", "model.depth=3"])
    assert isinstance(config, VitConfig)
    assert (config.data, config.model.patch, config.model.depth) == ("cifar10", 4, 3)


def test_a_path_as_data_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose(["workload=catboost", "data=mine.csv"])
    assert isinstance(config, CatBoostConfig)
    assert config.data == str(tmp_path / "mine.csv")


@pytest.mark.parametrize(
    "config",
    [
        VitConfig(seed=3),
        CatBoostConfig(),
        FakeConfig(tags=["ünï", "true", "1"]),
        FakeConfig(
            norms=Norms(thresholds={"spike": {"sigma": math.inf, "level": "off"}, "non-finite": {"skips": 5.0}})
        ),
    ],
    ids=["vit", "catboost", "fake", "thresholds"],
)
def test_what_is_written_is_read_back_the_same(tmp_path: Path, config: VitConfig) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert read_config(path) == config
    assert digest(read_config(path)) == digest(config)


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    values = plain(FakeConfig(seed=3))
    assert digest(validate(dict(reversed(values.items())))) == digest(FakeConfig(seed=3))
    assert digest(FakeConfig(seed=4)) != digest(FakeConfig(seed=3))


def test_the_digest_tells_infinite_limits_apart() -> None:
    limits = [{"spike": {"sigma": value}} for value in (math.inf, -math.inf, 8.0)]
    assert len({digest(FakeConfig(norms=Norms(thresholds=each))) for each in limits}) == 3


@pytest.mark.parametrize(
    ("overrides", "thresholds"),
    [
        (["norms.thresholds={non-finite:{skips:5}}"], {"non-finite": {"skips": 5}}),
        (
            ['norms.thresholds={non-finite:{skips:5},spike:{level:"off"}}'],
            {"non-finite": {"skips": 5}, "spike": {"level": "off"}},
        ),
        (["norms.thresholds.spike.sigma=8"], {"spike": {"sigma": 8}}),
        (
            ["norms.thresholds.spike.sigma=8", "norms.thresholds.spike.level=warn", "norms.thresholds.spike.sigma=9"],
            {"spike": {"sigma": 9, "level": "warn"}},
        ),
        (["norms={thresholds:{spike:{sigma:8}},muted:[spike]}"], {"spike": {"sigma": 8}}),
        (["norms.thresholds.spike.sigma=inf"], {"spike": {"sigma": math.inf}}),
        (["norms.thresholds={spike:{sigma:.inf,ratio:-.inf}}"], {"spike": {"sigma": math.inf, "ratio": -math.inf}}),
        (["norms.thresholds={}"], {}),
    ],
    ids=["one", "two", "dotted", "merged", "nested", "inf", "yaml-inf", "none"],
)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_limits_of_norms_are_open_keys(workload: str, overrides: list[str], thresholds: dict[str, object]) -> None:
    config = compose([f"workload={workload}", *overrides])
    assert config.norms.thresholds == thresholds
    assert validate(yaml.safe_load(to_yaml(config))) == config


def test_a_file_of_norms_is_named_by_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert compose(["workload=fake", "norms.file=mine.yaml"]).norms.file == str(tmp_path / "mine.yaml")


@pytest.mark.parametrize("group", ["mode", "regime", "violation"])
def test_a_group_has_a_file_for_each_choice_of_any_workload(group: str) -> None:
    assert set(options(group)) == {choice for schema in WORKLOADS.values() for choice in chosen(schema, group)}
    for workload, schema in WORKLOADS.items():
        for choice in chosen(schema, group):
            assert plain(compose([f"workload={workload}", f"{group}={choice}"]))[group] == choice


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.epoch=3"], "no key 'train.epoch' with workload=vit; did you mean 'train.epochs'?"),
        (["foo=1"], "no key 'foo' with workload=vit; the keys are amp, approve, augment"),
        (["workload=catboost", "model.patch=3"], "no key 'model.patch' with workload=catboost"),
        (["train.epochs=0"], "train.epochs=0: expected a whole number ≥ 1"),
        (["train.epochs=abc"], "train.epochs=abc: expected a whole number ≥ 1"),
        (["train.epochs=2.5"], "train.epochs=2.5: expected a whole number ≥ 1"),
        (["train.val_fraction=1.5"], "train.val_fraction=1.5: expected a number > 0 and < 1"),
        (["optimizer.lr=inf"], "optimizer.lr=inf: expected a finite number"),
        (["optimizer.lr=nan"], "optimizer.lr=nan: expected a finite number"),
        (["optimizer.name=adam"], "optimizer.name=adam: expected one of adamw, muon; did you mean 'adamw'?"),
        (["runtime.deterministic=maybe"], "runtime.deterministic=maybe: expected true or false"),
        (["runtime.device=gpu"], "runtime.device=gpu: expected auto, cpu, cuda or cuda:N"),
        (["seed=-1"], "seed=-1: expected a whole number ≥ 0 and < 4294967296"),
        (["seed="], "seed= has no value"),
        (["seed=1,2"], "gives several values"),
        (["tags=a"], "tags=a: expected a list in brackets"),
        (["tags=[1]"], "tags=[1]: expected a list in brackets"),
        (["train=3"], "train=3: expected the keys epochs, batch_size"),
        (["model.dim=[1,2]"], "model.dim=[1, 2]: expected a whole number"),
        (["workload=vitt"], "workload=vitt: allowed is catboost, fake, vit; did you mean 'vit'?"),
        (["mode=pipelin"], "mode=pipelin: allowed is agentic, norm_aware, pipeline; did you mean 'pipeline'?"),
        (["violation=meteor", "workload=fake"], "violation=meteor: allowed is none with workload=fake"),
        (
            ["violation=aug_lek"],
            "reporting_single_run with workload=vit; did you mean 'aug_leak'?",
        ),
        (
            ["violation=amp_nan", "workload=catboost"],
            "violation=amp_nan is for workload=vit; with workload=catboost allowed is checkpoint_incomplete, n",
        ),
        (
            ["violation=nondeterminism", "workload=fake"],
            "violation=nondeterminism is for workload=vit or catboost; with workload=fake allowed is none",
        ),
        (["fail_on=minor"], "fail_on=minor: expected one of critical, major, never; did you mean 'major'?"),
        (["approve=yes"], "approve=yes: expected one of ask, auto, record"),
        (["claim="], "claim= has no value"),
        (["data=''"], "data= has no value"),
        (["norms.thresholds.spike.sigma=nan"], "sigma=nan: expected a number, or inf to switch the comparison off"),
        (["norms.thresholds.spike=8"], "norms.thresholds={'spike': 8}: expected changed limits by norm, such as {spik"),
        (["norms.thresholds=8"], "norms.thresholds=8: expected changed limits by norm"),
        (["norms.treshold={}"], "did you mean 'norms.thresholds'?"),
        (["norms.deadline_seconds=inf"], "norms.deadline_seconds=inf: expected a finite number"),
        (["launcher=ssh"], "launcher=ssh: allowed is local"),
        (["data=cifar"], "data=cifar: allowed is cifar10, digits with workload=vit, or a path to a file"),
        (["workload=catboost", "data=digits"], "data=digits: allowed is bank with workload=catboost"),
        (["+x=1"], "keys are neither added nor removed"),
        (["~seed"], "keys are neither added nor removed"),
        (["train.epochs"], "'train.epochs' is no override; write key=value"),
        (["seed=${nowhere}"], "seed=${nowhere}: "),
        (["seed=${seed}"], "seed=${seed}: "),
        (["train={nope:3}"], "no key 'train.nope' with workload=vit"),
        (["tags={a:1}"], "tags"),
        (["workload@x=fake"], "a key has no '@'"),
        (["data=${oc.env:HOME}/x.npz"], "a path is written out"),
    ],
)
def test_what_cannot_be_is_refused_with_key_value_and_what_is_allowed(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_over_two_keys_names_both() -> None:
    with pytest.raises(ConfigError, match=r"model\.dim=64 must be a multiple of model\.heads=3"):
        compose(["model.dim=64", "model.heads=3"])


@pytest.mark.parametrize("text", ["", "[]", "seed: 1", "workload: none", "{", "\x00", "workload: [vit]"])
def test_a_broken_config_file_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


def test_yaml_in_a_session_makes_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("workload: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError, match="not YAML"):
        read_config(path)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_key_can_be_overridden_with_its_own_default(workload: str) -> None:
    config = WORKLOADS[workload]()
    values = plain(config)
    for key in keys_of(WORKLOADS[workload]):
        value = values
        for part in key.split("."):
            value = value[part]
        if value is None or key == "workload":
            continue
        assert not (isinstance(value, float) and math.isnan(value))
        text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("...").strip()
        assert compose([f"workload={workload}", f"{key}={text}"]) == config
