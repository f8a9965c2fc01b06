"""Parquet, 1024 rows at a time; columns of scalars, of structures of texts and numbers, and of lists of these.
Others, such as pictures, are left alone.

Where Hugging Face wrote the file, class numbers become the names that it kept for them. Pickled metadata stays unread.
"""

import json
from collections.abc import Iterator, Mapping
from io import BufferedReader
from typing import Any

from tasks.data.readers.lines import MAX_RATIO, UNTIL_RATIO, Fault, Row, refuse_other_formats
from tasks.errors import BadInput

BATCH = 1024  # rows; a text may be long
BUFFER = 1 << 20  # bytes of a column read ahead; without it Arrow loads whole row groups
MAX_COLUMNS = 10_000


def rows(file: BufferedReader, name: str) -> Iterator[Row | Fault]:
    """A Row for every row; a Fault (encoding) for one with text that is not UTF-8.

    Raises:
        BadInput: E-PARQUET, E-DATA-MAGIC, E-DATA-BOMB.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    head = file.peek(512)[:512]
    if not head:
        return
    if not head.startswith(b"PAR1"):
        refuse_other_formats(head, name)
    try:
        with pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False) as table:
            _refuse_odd(table, name)
            schema = table.schema_arrow
            classes = class_names(_described(schema.metadata or {}))
            columns = [field.name for field in schema if _is_read(field.type)]
            number = 0
            for batch in table.iter_batches(BATCH, columns=columns, use_threads=False):
                for values in _values(_microseconds(batch)):
                    number += 1
                    yield _row(number, values, classes)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput("E-PARQUET", f"{name} is broken: {reason:.200}; write or copy it again") from error


def class_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names behind class numbers, by column, from Hugging Face's description of columns."""
    found = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and isinstance(inner.get("names"), list):
            found[column] = list(map(str, inner["names"]))
    return found


def named(values: dict[str, Any], classes: Mapping[str, list[str]]) -> dict[str, Any]:
    """`values` with names instead of class numbers; -1, by custom "no label", becomes None."""
    for column, names in classes.items():
        found = values.get(column)
        values[column] = [_name(one, names) for one in found] if isinstance(found, list) else _name(found, names)
    return values


def _name(value: Any, names: list[str]) -> Any:
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _refuse_odd(table: Any, name: str) -> None:
    facts, columns = table.metadata, table.schema_arrow.names
    if facts.num_columns > MAX_COLUMNS:
        raise BadInput("E-PARQUET", f"{name}: {facts.num_columns} columns > {MAX_COLUMNS}; rows of a dataset have few")
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise BadInput("E-PARQUET", f"{name}: column {twice!r:.80} stands twice; rename one")
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    packed = sum(group.column(i).total_compressed_size for group in groups for i in range(group.num_columns))
    unpacked = sum(group.total_byte_size for group in groups)
    if unpacked > UNTIL_RATIO and unpacked > MAX_RATIO * packed:
        ratio = unpacked // max(packed, 1)
        raise BadInput("E-DATA-BOMB", f"{name}: {unpacked >> 20} MiB unpacked, ratio {ratio} > {MAX_RATIO}; repack it")


def _described(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """Hugging Face's description of the columns, or nothing."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _is_read(type: Any) -> bool:
    """Whether values of an Arrow type can be text, a label, tokens, passages, turns or a column to slice by."""
    from pyarrow import types

    if types.is_dictionary(type):
        return _is_read(type.value_type)
    if types.is_list(type) or types.is_large_list(type):
        return _is_told(type.value_type) or not types.is_nested(type.value_type)
    return _is_told(type) or not (types.is_nested(type) or types.is_duration(type) or types.is_interval(type))


def _is_told(type: Any) -> bool:
    """Whether a type is a structure of texts and whole numbers, or of lists of them."""
    from pyarrow import types

    plain = (types.is_string, types.is_large_string, types.is_integer)
    fields = [field.type for field in type] if types.is_struct(type) else []
    inner = [each.value_type if types.is_list(each) or types.is_large_list(each) else each for each in fields]
    return bool(inner) and all(any(kind(each) for kind in plain) for each in inner)


def _microseconds(batch: Any) -> Any:
    """The batch with times in microseconds, as Python knows them; those with a zone in UTC."""
    import pyarrow as pa

    for i, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type):
            plain = pa.timestamp("us", "UTC" if field.type.tz else None)
            batch = batch.set_column(i, field.name, batch.column(i).cast(plain, safe=False))
    return batch


def _values(batch: Any) -> Iterator[dict[str, Any] | UnicodeDecodeError]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for i in range(len(batch)):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield error


def _row(number: int, values: dict[str, Any] | UnicodeDecodeError, classes: Mapping[str, list[str]]) -> Row | Fault:
    if isinstance(values, UnicodeDecodeError):
        detail = f"byte {values.start} of a text (0x{values.object[values.start]:02x}) is not UTF-8"
        return Fault(number, "encoding", detail, values.object[:800].decode(errors="backslashreplace"))
    return Row(number, named(values, classes) if classes else values)
