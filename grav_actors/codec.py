"""Messages and plain data as MessagePack bytes, and back.

A **record** is one message: the array `[uuid, reply_to, parent_id, timestamp_ns, data, headers]`. `uuid`
is 16 bytes, `reply_to` and `parent_id` are 16 bytes or none, `timestamp_ns` counts nanoseconds since 1970
(UTC), `headers` is a map of text to text or nil. A **body** is an array of records; or, of messages without
`reply_to` and headers, an array of **columns**: the uuids, the parents, the times, the data.

A **marshalled message** stands alone: the array `["grav", 1, type, uuid, reply_to, parent_id,
timestamp_ns, data, headers]`, where 1 is the version of this form. It always begins with the bytes
`99 a4 67 72 61 76 01`.

**Data** is nil, bool, int from -2**63 to 2**64-1, float, str (UTF-8), bin, array, map with keys str, bin
or int, timestamp (extension -1), or a reference to an actor (extension 1, the name in UTF-8); arrays and
maps nest up to 32 deep, an array has at most 2**20 items and a map 2**19.
"""

from grav_actors.decoding import (
    Opened,
    Stem,
    check_body,
    check_headers,
    cut_records,
    open_body,
    record_ids,
    record_offsets,
    slice_body,
    stem_record,
    stem_uuid,
    unpack_body,
    unpack_message,
)
from grav_actors.encoding import (
    LARGE_DATA,
    MARSHAL_MAGIC,
    MARSHAL_VERSION,
    MAX_HEADER_BYTES,
    HasRecord,
    array_header,
    is_fixed,
    join_body,
    large_parts,
    pack_columns,
    pack_data,
    pack_each,
    pack_fields,
    pack_message,
    pack_record,
    pack_records,
    pack_single,
    pack_value,
    record_of,
)
from grav_actors.plain_data import EXT_ACTOR_REF, MAX_DEPTH, MAX_DICT_ITEMS, MAX_LIST_ITEMS
from grav_actors.unpacking import MakeRef, unpack_value

__all__ = [
    "EXT_ACTOR_REF",
    "LARGE_DATA",
    "MARSHAL_MAGIC",
    "MARSHAL_VERSION",
    "MAX_DEPTH",
    "MAX_DICT_ITEMS",
    "MAX_HEADER_BYTES",
    "MAX_LIST_ITEMS",
    "HasRecord",
    "MakeRef",
    "Opened",
    "Stem",
    "array_header",
    "check_body",
    "check_headers",
    "cut_records",
    "is_fixed",
    "join_body",
    "large_parts",
    "open_body",
    "pack_columns",
    "pack_data",
    "pack_each",
    "pack_fields",
    "pack_message",
    "pack_record",
    "pack_records",
    "pack_single",
    "pack_value",
    "record_ids",
    "record_of",
    "record_offsets",
    "slice_body",
    "stem_record",
    "stem_uuid",
    "unpack_body",
    "unpack_message",
    "unpack_value",
]
