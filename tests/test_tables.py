"""Tables: columns become rows and columns again, and each kind has its likelihood."""

import contextlib
import csv
import decimal
import fractions
import json

import keras
import numpy as np
import pytest
from numerics import computed, to_numpy
from scipy import stats

import keras_ae
from keras_ae import datasets, likelihoods
from keras_ae.datasets import tables

Schema = datasets.Schema


def people(n, seed=0):
    """A table of every kind, in which colour and visits follow from height."""
    rng = np.random.default_rng(seed)
    height = rng.normal(1.7, 0.2, n)
    visits = rng.poisson(np.exp(3 * (height - 1.5)))
    colour = np.where(height > 1.7, "red", "blue").astype(object)
    weight = 40 * height + rng.normal(0, 2, n)
    gaps = rng.random(n) < 0.2
    weight[gaps] = np.nan
    colour[rng.random(n) < 0.1] = None
    member = height + rng.normal(0, 0.1, n) > 1.7
    return {
        "height": height,
        "weight": weight,
        "visits": visits,
        "colour": colour,
        "member": member,
    }


@pytest.fixture(scope="module")
def table():
    return people(400)


@pytest.fixture(scope="module")
def schema(table):
    return Schema.of(table, kinds={"visits": "count"})


def assert_same(found, table):
    assert list(found) == list(table)
    for name, values in table.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found[name], values, rtol=1e-5)
        else:
            np.testing.assert_array_equal(found[name], values)


@pytest.mark.once
def test_rows_are_the_table(table, schema, tmp_path):
    rows = schema.rows(table)
    assert rows.shape == (400, schema.width) and rows.dtype == "float32"
    # One of a number, two with its gaps, three of two colours and none, two of a flag.
    assert {n: s.stop - s.start for n, s in schema.slices().items()} == {
        "height": 1,
        "weight": 2,
        "visits": 1,
        "colour": 3,
        "member": 2,
    }
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows[:, 0].std(), 1, rtol=1e-5)
    np.testing.assert_allclose(rows[:, 3].mean(), 1, rtol=1e-5)
    assert_same(schema.table(rows), table)
    again = Schema.from_config(schema.get_config())
    assert again.columns == schema.columns
    # Columns that it does not know are left out, in whatever order they come.
    shuffled = {"new": np.zeros(400), **dict(reversed(table.items()))}
    np.testing.assert_array_equal(again.rows(shuffled), rows)
    sums = schema.by_column(rows)
    np.testing.assert_allclose(sums["colour"], 1)


@pytest.mark.once
def test_tables_of_any_kind(table, schema, tmp_path):
    path = tmp_path / "people.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(table)
        for row in zip(*table.values(), strict=True):
            lines.writerow(["" if v is None or v != v else v for v in row])
    read = datasets.read_table(path)
    assert read["height"].dtype == "float64" and read["colour"].dtype == object
    assert read["member"].dtype == bool
    rows = schema.rows(table)
    np.testing.assert_array_equal(schema.rows(read), rows)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table)
    np.testing.assert_array_equal(schema.rows(frame), rows)
    frame["visits"] = frame["visits"].astype("Int64")
    frame["colour"] = frame["colour"].astype("category")
    np.testing.assert_array_equal(schema.rows(frame), rows)
    kinds = [column.kind for column in Schema.of(frame).columns]
    assert kinds == ["number", "number", "number", "category", "category"]


@pytest.mark.once
def test_numbers_alone_are_a_table():
    values = np.random.default_rng(0).normal(3, 2, (50, 4))
    schema = Schema.of(values)
    assert schema.names == ("column 0", "column 1", "column 2", "column 3")
    rows = schema.rows(values)
    expected = (values - values.mean(axis=0)) / values.std(axis=0)
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)
    fields = [("a", "f8"), ("b", "i8")]
    pairs = np.array([(1.5, 2), (2.5, 3)], dtype=fields)
    assert Schema.of(pairs).names == ("a", "b")


@pytest.mark.once
@pytest.mark.parametrize(
    "column, message",
    [
        ([None, None, float("nan")], "must have values. Received: 3 gaps"),
        ([2.0, 2.0, 2.0], "more than one value. Received: 2 in all rows; leave it out"),
        (["a", "a", "a"], "more than one value. Received: 'a' in all rows"),
        ([1.0, np.inf, 2.0], "finite numbers"),
        ([[1], [2], [3]], r"one number or category in a row. Received: \[1\]"),
        # As polars and Parquet have lists.
        (np.array([np.arange(2), np.arange(3), None], object), r"category in a row"),
        (np.array(["2026-01-01"] * 3, "M8[D]"), "make numbers of times"),
    ],
)
def test_columns_that_tell_nothing_are_refused(column, message):
    with pytest.raises(ValueError, match=message):
        Schema.of({"a": column})


@pytest.mark.once
def test_what_training_had_not_is_refused(table, schema, tmp_path):
    few = {name: values[:3].copy() for name, values in table.items()}

    def refused(message, **changed):
        with pytest.raises(ValueError, match=message):
            schema.rows({**few, **changed})

    refused("'green' in row 1", colour=np.array(["red", "green", "red"], object))
    refused("no gaps, as in training.* in row 2", height=[1.0, 2.0, None])
    refused("must hold numbers. Received: 'tall'", height=[1.0, "tall", 2.0])
    refused("equally long", height=[1.0])
    with pytest.raises(ValueError, match="without 'colour'"):
        schema.rows({name: v for name, v in few.items() if name != "colour"})
    with pytest.raises(ValueError, match="several rows share. Received: 400"):
        Schema.of({"name": [f"person {i}" for i in range(400)]})
    with pytest.raises(ValueError, match="whole numbers from 0 up"):
        Schema.of(few, kinds={"height": "count"})
    with pytest.raises(ValueError, match="must be one of number, count"):
        Schema.of(few, kinds={"height": "text"})
    with pytest.raises(ValueError, match="must name columns of the table"):
        Schema.of(few, kinds={"heigth": "count"})
    with pytest.raises(ValueError, match=r"must have the shape \(n, 9\)"):
        schema.table(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="rows and columns. Received: none"):
        Schema.of({})
    with pytest.raises(ValueError, match="Received: int"):
        Schema.of(3)


@pytest.mark.once
def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no table"):
        datasets.read_table(tmp_path / "none.csv")
    for text, message in (
        ("", "It is empty"),
        ("a,b\n", "It is empty"),
        ("a,a\n1,2\n", "two columns 'a'"),
        ("a,b\n1,2\n3\n", "Line 3 of .* must have 2 fields.* Received: 1"),
        ("0.5,1,7,2\n1,2,3,4\n", "the names of the columns.* 0.5, 1, 7, ...; write"),
        ("a,,b\n1,2,3\n", "names of all columns. Received: none of column 2; name it"),
        ("0.5,1,x,2\n1,2,x,4\n3,4,y,5\n", "the values 0.5, 1, x, ...; write a line"),
        # Two columns are called alike where there are no names.
        ("0,0,x\n1,2,x\n", "the values 0, 0, x; write a line of names"),
        (",\n1,\n", "columns with names. Received: none"),
        (",\n,\n", "It is empty"),
        ('a,b\n1,x\n2,"y\n3,z\n', "none up to the end of .*, in the row of line 3"),
        ('a,b\n"1,x\n2,y', "a field must have another one .* in the row of line 2"),
        ("sep=;\na;b\n1;2\n3\n", "Line 4 of .* must have 2 fields.* Received: 1"),
    ):
        (tmp_path / "odd.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            datasets.read_table(tmp_path / "odd.csv")
    (tmp_path / "odd.csv").write_bytes("name\nMüller\n".encode("latin-1"))
    with pytest.raises(ValueError, match="in UTF-8. Received: a byte 0xfc at 6; save"):
        datasets.read_table(tmp_path / "odd.csv")
    (tmp_path / "odd.csv").write_bytes("a,b\n1,2\n".encode("utf-16-le"))
    with pytest.raises(ValueError, match="in UTF-8. Received: bytes of zero"):
        datasets.read_table(tmp_path / "odd.csv")
    (tmp_path / "odd.txt").write_text("a\n1\n")
    with pytest.raises(ValueError, match=r"must be a \.csv or \.parquet file"):
        datasets.read_table(tmp_path / "odd.txt")


@pytest.mark.once
def test_tables_of_spreadsheets(tmp_path):
    path = tmp_path / "semicolons.csv"
    path.write_text("a;b;c\n0,5;x;1\n1,25;y, z;2\n")
    read = datasets.read_table(path)
    np.testing.assert_array_equal(read["a"], [0.5, 1.25])
    assert read["b"].tolist() == ["x", "y, z"]
    path.write_text("a\tb\n1\t2,5\n")
    assert datasets.read_table(path)["b"].tolist() == [2.5]
    for text, names in (
        ("Load, kg;On\n0,5;1\n", ["Load, kg", "On"]),
        (
            '"Temp, C";"Pressure, kPa";"RPM, 1/min"\n0,5;1;2\n1;2,5;3\n',
            ["Temp, C", "Pressure, kPa", "RPM, 1/min"],
        ),
        ('id,x,y,"lat;lon"\n1,2,3,"50;8"\n', ["id", "x", "y", "lat;lon"]),
        ("id,one;two;three\n1,2\n", ["id", "one;two;three"]),
        ("a|b, kg\n1|0,5\n", ["a", "b, kg"]),
        ("sep=;\na, b, c;d\n1,5;2\n", ["a, b, c", "d"]),
        ("SEP=\t\r\na;b\tc\r\n1,5\t2\r\n", ["a;b", "c"]),
        ("name\nx;y\n", ["name"]),
        # Spreadsheets write columns of nothing.
        ("a;b;;\n1;2;;\n", ["a", "b"]),
        # What looks like a header of values may be positions, years or kinds.
        ("0,1,kind\n4,5,x\n", ["0", "1", "kind"]),
        ("1,2,,\n4,5,,\n", ["1", "2"]),
    ):
        path.write_text(text, newline="")
        assert list(datasets.read_table(path)) == names, text
    # Positions, as pandas writes them, and years.
    for names in ("0,1,2", "2015,2020,2025"):
        path.write_text(f"{names}\n4,5,6\n")
        assert list(datasets.read_table(path)) == names.split(",")


@pytest.mark.once
def test_names_of_rows_are_no_column(tmp_path):
    # As pandas has it: `to_csv()` writes them, and no frame has them as a column.
    path = tmp_path / "rows.csv"
    path.write_text(",a,b\n1000,1,2\n1001,3,5\n")
    read = datasets.read_table(path)
    assert list(read) == ["a", "b"] and read["a"].tolist() == [1, 3]


@pytest.mark.once
def test_lines_and_spaces_that_hold_nothing_are_no_values(tmp_path):
    path = tmp_path / "loose.csv"
    path.write_text('\n"a", "b c",  d\n1, 2, "x, y"\n\n3, 4, z\n,,\n , ,\n')
    read, lines = tables.read_numbered(path)
    assert list(read) == ["a", "b c", "d"] and lines.tolist() == [3, 5]
    assert read["d"].tolist() == ["x, y", "z"]
    # A gap in the midst of a series is a step of it.
    path.write_text("a,b\n1,2\n,\n3,4\n")
    np.testing.assert_array_equal(datasets.read_table(path)["a"], [1, np.nan, 3])


@pytest.mark.once
def test_categories_that_are_texts_stay_so_in_a_file_of_digits_alone(tmp_path):
    (tmp_path / "all.csv").write_text("floor;height\n1;2,5\n02;3,5\nK;1,5\n1;2,0\n")
    path = tmp_path / "new.csv"
    path.write_text("floor;height\n02;2,5\n1;3,5\n")
    schema = Schema.of(tmp_path / "all.csv")
    assert schema.texts == ("floor",)
    read = datasets.read_table(path, texts=schema.texts)
    assert read["floor"].tolist() == ["02", "1"] and read["height"].tolist()[0] == 2.5
    rows = schema.rows(path)
    assert schema.table(rows)["floor"].tolist() == ["02", "1"]
    np.testing.assert_array_equal(schema.rows(read), rows)
    path.write_text("floor;height\nNA;2,5\n1;3,5\n")
    with pytest.raises(ValueError, match="Received: a gap in row 0"):
        schema.rows(path)
    path.write_text("height\n1\n")
    with pytest.raises(ValueError, match="without 'floor'"):
        schema.rows(path)
    # Numbers that are categories stay numbers.
    schema = Schema.of({"floor": [1.0, 2.0]}, kinds={"floor": "category"})
    path.write_text("floor\n1\n2\n")
    assert schema.texts == () and schema.rows(path).tolist() == [[1, 0], [0, 1]]


@pytest.mark.once
def test_of_many_categories_some_are_named():
    schema = Schema.of({"x": [f"kind {i:03}" for i in range(100)] * 2})
    with pytest.raises(ValueError, match="'kind 009' and 90 more. Received: 'new' in"):
        schema.rows({"x": ["kind 099", "new"]})


@pytest.mark.once
def test_months_are_no_numbers(tmp_path):
    (tmp_path / "months.csv").write_text("month,x\n2021_01,1_000\n2021_02,2\n")
    read = datasets.read_table(tmp_path / "months.csv")
    assert list(read["month"]) == ["2021_01", "2021_02"]
    assert list(read["x"]) == ["1_000", "2"]


def column_of(path, separator, texts):
    """The one column of texts in a file, beside another."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file, delimiter=separator)
        lines.writerows([["x", "other"], *([text, "a"] for text in texts)])
    return datasets.read_table(path)["x"].tolist()


@pytest.mark.once
@pytest.mark.parametrize(
    "separator, texts, values",
    [
        (",", ["1,000", "-12,345,678.5", "7"], [1000, -12345678.5, 7]),
        (",", ["1 000", "2\u202f500.5"], [1000, 2500.5]),
        (";", ["1'000", "20,5"], [1000, 20.5]),
        (";", ["1.234,56", "1.234", "0,5"], [1234.56, 1234, 0.5]),
        (";", ["1 234,5", "7"], [1234.5, 7]),
        ("|", ["1,234.5", "7"], [1234.5, 7]),
        # Either may be a decimal point.
        (";", ["1.234", "2,5"], [1.234, 2.5]),
        (",", ["1.234", "2.345"], [1.234, 2.345]),
        (",", ["1,234", "0,5"], ["1,234", "0,5"]),
        (",", ["1,234", "12345"], ["1,234", "12345"]),
        (",", ["1,234", "0,123"], ["1,234", "0,123"]),
        (",", ["TRUE", "false"], [True, False]),
        (",", ["true", "NULL", "False"], [True, None, False]),
        (",", ["true", "1"], ["true", "1"]),
        (",", ["none", "#N/A", "mild"], ["none", None, "mild"]),
    ],
)
def test_columns_of_files_are_what_all_their_texts_are(
    separator, texts, values, tmp_path
):
    found = column_of(tmp_path / "x.csv", separator, texts)
    assert found == values and [*map(type, found)] == [
        float if type(value) is int else type(value) for value in values
    ]


@pytest.mark.once
def test_numbers_stay_numbers_among_gaps(tmp_path):
    path = tmp_path / "gaps.csv"
    gaps = ["NULL", "#N/A", "n/a", "<NA>", "None", "none", "-nan", "Null", " ", "#NA"]
    found = column_of(path, ",", [*gaps, "1.5", "2"])
    np.testing.assert_array_equal(found, [np.nan] * len(gaps) + [1.5, 2])
    # One file has decimal commas in one column, and so perhaps in another.
    path.write_text('a,b\n"1,234","0,5"\n"2,345","1,5"\n')
    assert datasets.read_table(path)["a"].tolist() == ["1,234", "2,345"]
    numbers = [str(i) for i in range(38)]
    told = "'x' of .*gaps.csv holds numbers except for 'missing' and '-', which"
    with pytest.warns(UserWarning, match=told):
        column_of(path, ",", [*numbers, "missing", "-"])
    message = "Received: 39 different ones in 41 rows; they are numbers except for 'mis"
    with pytest.raises(ValueError, match=message):
        Schema.of({"x": [*numbers, "missing", "missing", "missing"]})
    schema = Schema.of({"x": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="must hold numbers. Received: 'missing'"):
        schema.rows({"x": ["1", "missing", "3"]})


@pytest.mark.once
def test_fields_have_any_length(tmp_path):
    usual = csv.field_size_limit()
    assert column_of(tmp_path / "x.csv", ",", ["a" * 200_000]) == ["a" * 200_000]
    assert csv.field_size_limit() == usual


@pytest.mark.once
def test_flags_and_gaps_are_those_of_other_files(tmp_path):
    path = tmp_path / "x.csv"
    flags = {"x": np.array([True, False, True])}
    of_frame, of_texts = Schema.of(flags), Schema.of({"x": ["True", "False", "True"]})
    # As it was saved when files had no booleans.
    of_texts = Schema.from_config(json.loads(json.dumps(of_texts.get_config())))
    for schema in (of_frame, of_texts):
        for texts in (["True", "False", "True"], ["TRUE", "FALSE", "TRUE"]):
            column_of(path, ",", texts)
            for table in (path, {"x": texts}, flags, datasets.read_table(path)):
                assert schema.rows(table).tolist() == [[0, 1], [1, 0], [0, 1]]
    assert of_frame.table(of_frame.rows(path))["x"].tolist() == [True, False, True]
    schema = Schema.of({"x": ["NULL", "a", "b"]})
    column_of(path, ",", ["a", "NULL", ""])
    assert schema.rows(path).tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]


@pytest.mark.once
def test_categories_of_frames_may_be_numbers(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"floor": pandas.Categorical([3, 1, 2, 1])})
    codes = pandas.Series([7, None, 8, 7], dtype="Int64")
    frame["code"] = codes.astype("category")
    for table in (frame, dict(frame)):
        schema = Schema.of(table)
        assert [column.kind for column in schema.columns] == ["category"] * 2
        again = schema.table(schema.rows(table))
        assert again["floor"].tolist() == [3, 1, 2, 1]
        assert again["code"].tolist() == [7, None, 8, 7]
        assert {type(value) for value in again["floor"]} == {int}
    assert Schema.of(frame, {"floor": "number"}).columns[0].kind == "number"
    frame.to_csv(tmp_path / "frame.csv", index=False)
    rows = schema.rows(tmp_path / "frame.csv")
    np.testing.assert_array_equal(rows, schema.rows(frame))


@pytest.mark.once
def test_decimals_are_numbers(tmp_path):
    prices = [decimal.Decimal("1.5"), None, decimal.Decimal("2.50")]
    tables = [{"price": prices}, {"price": [fractions.Fraction(3, 2), None, 2.5]}]
    with contextlib.suppress(ImportError):
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"price": prices}), tmp_path / "a.parquet")
        tables.append(tmp_path / "a.parquet")
    for table in tables:
        schema = Schema.of(table)
        found = schema.table(schema.rows(table))["price"]
        np.testing.assert_allclose(found, [1.5, np.nan, 2.5], rtol=1e-6)


@pytest.mark.once
def test_numbers_beyond_all_bounds_stay_finite(table, schema):
    few = {name: values[:3].copy() for name, values in table.items()}
    few["height"][:] = 1e300, -1e300, 3.4e38
    few["visits"] = np.array([1e300, 0, 1])
    rows = schema.rows(few)
    np.testing.assert_allclose(rows[:, 0], [1e15, -1e15, 1e15], rtol=1e-6)
    assert np.isfinite(rows).all()


def test_rows_that_no_schema_made_are_refused(table, schema):
    model = keras_ae.VAE(2, likelihood=likelihoods.Columns(schema), widths=(4,))
    rows = schema.rows(table)
    with pytest.raises(ValueError, match=f"must hold {schema.width} values.*of 5 val"):
        model.fit(rows[:, :5], verbose=0)
    likelihood = likelihoods.Columns(schema)
    for shifted, message in (
        (rows - 9, "of a count must be >= 0, as `schema.rows"),
        (rows + 9, "of a gap must be between 0 and 1, as"),
    ):
        with pytest.raises(ValueError, match=message):
            likelihood.check_examples(shifted)


def test_log_probabilities_are_those_of_scipy(table, schema):
    likelihood = likelihoods.Columns(schema)
    scale = np.array([1.3, 0.6], "float32")
    likelihood.running_moment.assign(0.5 * scale**2)
    likelihood.running_weight.assign([0.5, 0.5])
    rows = schema.rows(table)
    rng = np.random.default_rng(0)
    parameters = rng.normal(0, 1, rows.shape).astype("float32")
    where = schema.slices()
    expected = stats.norm.logpdf(rows[:, 0], parameters[:, 0], scale[0])
    gap = rows[:, 2]
    weight = stats.norm.logpdf(rows[:, 1], parameters[:, 1], scale[1])
    expected += np.where(gap, 0, weight)
    expected += stats.bernoulli.logpmf(gap, 1 / (1 + np.exp(-parameters[:, 2])))
    rates = table["visits"].mean() * np.exp(parameters[:, 3])
    expected += stats.poisson.logpmf(table["visits"], rates)
    for name in ("colour", "member"):
        logits = parameters[:, where[name]]
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected += np.log((chances * rows[:, where[name]]).sum(axis=1))
    found = computed(likelihood.log_prob, rows, parameters)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_scales_are_those_of_what_is_known(table, schema):
    likelihood = likelihoods.Columns(schema)
    rows = schema.rows(table)
    parameters = np.random.default_rng(0).normal(0, 1, rows.shape).astype("float32")
    residual = rows[:, :2] - parameters[:, :2]
    expected = [
        np.sqrt(np.mean(residual[:, 0] ** 2)),
        np.sqrt(np.mean(residual[rows[:, 2] == 0, 1] ** 2)),
    ]

    def trained_on(rows, parameters, observed):
        return likelihood.log_prob(rows, parameters, training=True, observed=observed)

    given = (rows, parameters, np.ones(rows.shape, bool))
    trained = computed(trained_on, *given, variables=likelihood.variables)
    np.testing.assert_allclose(to_numpy(likelihood.scale()), expected, rtol=1e-4)
    evaluated = computed(likelihood.log_prob, rows, parameters)
    np.testing.assert_allclose(trained, evaluated, rtol=1e-4)
    # A batch of nothing but gaps says nothing about a scale, nor do hidden values.
    gaps = np.repeat(rows[rows[:, 2] == 1][:1], len(rows), axis=0)
    observed = np.ones(gaps.shape, bool)
    observed[:, 0] = False
    computed(trained_on, gaps, gaps, observed, variables=likelihood.variables)
    np.testing.assert_allclose(to_numpy(likelihood.scale()), expected, rtol=1e-4)


def test_draws_have_the_moments_of_the_likelihood(schema):
    likelihood = likelihoods.Columns(schema)
    rng = np.random.default_rng(1)
    parameters = np.repeat(rng.normal(0, 1, (1, schema.width)), 20_000, axis=0)
    parameters = parameters.astype("float32")
    drawn = to_numpy(likelihood.sample(parameters, seed=0))
    mean = to_numpy(likelihood.mean(parameters))[0]
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - mean) < 5 * error + 1e-6).all()
    np.testing.assert_array_equal(drawn, to_numpy(likelihood.sample(parameters, 0)))
    visits = schema.table(drawn)["visits"]
    rate = float(np.exp(parameters[0, 3])) * schema.columns[2].mean
    np.testing.assert_allclose(visits.var(), rate, rtol=0.05)
    for name in ("colour", "member"):
        np.testing.assert_array_equal(drawn[:, schema.slices()[name]].sum(axis=1), 1)


@pytest.mark.once
@pytest.mark.thorough
def test_a_model_of_a_table_tells_what_does_not_fit(table, schema, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras_ae.VAE(2, likelihood=likelihoods.Columns(schema))
    model.compile(keras.optimizers.Adam(1e-2))
    rows = schema.rows(table)
    history = model.fit(rows, epochs=40, batch_size=40, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] - 1
    model.save(tmp_path / "people.keras")
    loaded = keras.saving.load_model(tmp_path / "people.keras")
    found = loaded.likelihood.schema.table(loaded.sample(200, seed=0))
    assert set(found["colour"]) <= {"red", "blue", None}
    tall = found["height"] > 1.9
    short = found["height"] < 1.5
    assert found["weight"][tall].mean() > found["weight"][short].mean() + 10
    # A tall person in blue is odd, and its colour is what says so.
    odd = people(60, seed=1)
    odd = {name: values[odd["height"] > 1.9] for name, values in odd.items()}
    odd["colour"][:] = "red"
    usual = schema.rows(odd)
    odd["colour"][:] = "blue"
    odd = schema.rows(odd)
    detector = keras_ae.AnomalyDetector(loaded, "reconstruction").fit(rows)
    difference = detector.decision_function(odd) - detector.decision_function(usual)
    assert np.median(difference) > 1
    share = schema.by_column(np.abs(odd - loaded.reconstruct(odd)))
    assert np.median(share["colour"]) > 0.5


def test_integers_that_are_rounded_are_told(tmp_path):
    file = tmp_path / "customers.csv"
    file.write_text("id,age\n9007199254740992,1\n,2\n9007199254740993,3\n")
    with pytest.warns(
        UserWarning, match=r"'id' of .*9007199254740993 to 9007199254740"
    ):
        datasets.read_table(file)
    kept = datasets.read_table(file, texts=["id"])["id"]
    assert [*kept] == ["9007199254740992", None, "9007199254740993"]
    # What is exact, or was never meant to be, is not told.
    file.write_text(f"id,age\n9007199254740992,-1e30\n9007199254740994,{'9' * 5000}\n")
    np.testing.assert_array_equal(datasets.read_table(file)["id"] % 4, [0, 2])
