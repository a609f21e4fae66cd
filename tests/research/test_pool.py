import pytest

from research.pool import licence_allows, load_pool, shared_folder
from routellm_core.errors import ConfigError

pandas = pytest.importorskip("pandas", reason="needs the extra [train]")


def write_pool(folder):
    prompts = pandas.DataFrame(
        {
            "prompt_id": ["a", "b"],
            "source": ["s", "s"],
            "category": ["c", "c"],
            "data_licence": ["MIT", "CC-BY-SA-4.0"],
            "prompt": ["one", "two"],
        }
    )
    prompts.to_parquet(folder / "prompts.parquet")
    pandas.DataFrame({"prompt_id": ["a", "b"], "model": ["m", "m"], "score": [1.0, 0.0]}).to_parquet(
        folder / "scores.parquet"
    )
    pandas.DataFrame({"prompt_id": ["a", "b"], "winner": ["strong", "tie"]}).to_parquet(folder / "pairs.parquet")


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0", True),
        ("MIT (AGIEval)", True),
        ("MIT (benchmark), Apache-2.0 (repo)", True),
        ("CC-BY-SA-4.0", False),
        ("AFL-3.0", False),
        ("unstated (AllenAI)", False),
        ("MIT (repo); underlying benchmarks mixed", False),
        ("Apache-2.0 (benchmark); results repo has no licence file", False),
        ("", False),
    ],
)
def test_only_licences_that_were_read_are_allowed(statement, allowed):
    assert licence_allows(statement) is allowed


def test_rows_without_a_licence_are_dropped_everywhere(tmp_path):
    write_pool(tmp_path)
    pool = load_pool(tmp_path)
    assert [frame["prompt_id"].tolist() for frame in (pool.prompts, pool.scores, pool.pairs)] == [["a"]] * 3
    assert len(load_pool(tmp_path, licensed_only=False).prompts) == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"prompts\.parquet"):
        load_pool(tmp_path)


def test_the_shared_folder_is_a_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("ROUTELLM_SHARED", str(tmp_path))
    assert shared_folder() == tmp_path
    monkeypatch.setenv("ROUTELLM_SHARED", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="ROUTELLM_SHARED"):
        shared_folder()
