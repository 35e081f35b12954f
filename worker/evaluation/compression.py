"""Definitions in a third of their size, as a worker keeps those that nothing fires.

All definitions share most of their words: deflate finds them in a preset dictionary, so that even a short text shrinks.
Nothing that is compressed is ever stored, so the dictionary may change with every release.
"""

from __future__ import annotations

import zlib

_WINDOW = -12
"""Raw deflate that looks back four kilobytes, as far as the dictionary reaches. A larger window costs memory for each
text that is taken apart, and finds no more."""
_MEMORY_LEVEL = 5
_LEVEL = 9
"""The most thorough: a definition is compressed once and kept for as long as it is not edited."""
# What is likeliest stands last, where deflate refers to it in the fewest bits.
_WORDS = b"".join(
    (
        b'"failed""crashed""finished""running""killed""preempted""states":["config."display_name"$nor":["$not":{',
        b'"$exists":true"$nin":["$gte":"$lte":"$lt":"$ne":"collection":"organization"z_score""change""threshold"',
        b'"conditions":[{"metric":"loss","aggregate":"AVERAGE","window":30,"op":"$gt","threshold":0.5}],',
        b'"cooldown":{"period":"1h","per":"automation"},"rate_limit":"10/m"ADD_COLLECTION_TAG REMOVE_ARTIFACT_TAG ',
        b"UNLINK_ARTIFACT ${run_id}${run_name}${run_state}${metric_name}${metric_value}${metric_threshold}${event_id}",
        b"${event_time}${delivery_id}${project_name}${entity_name}${event_type}${artifact_collection_name}${tag}",
        b'${artifact_version}${artifact_metadata.${ACCESS_TOKEN}"Authorization":"Bearer ',
        b'"ref":"main","client_payload":{"event_type":"text":"message":"model":"',
        b'[],false,true,"description":null,"enabled":true,"scope":{"project":"wandb-registry-"},"event":"RUN_STATE"',
        b'"event":"RUN_METRIC""event":"CREATE_ARTIFACT""event":"LINK_ARTIFACT""event":"ADD_ARTIFACT_TAG"',
        b'"event":"ADD_ARTIFACT_ALIAS","filter":{"$and":[{"artifact_type":{"$eq":"model"}},{"metadata.{"$contains":"',
        b'{"author":{"$eq":"{"version":{"$regex":"^{"tags":{"$eq":"{"tag":{"$or":[{"alias":{"$in":[{"$regex":"^',
        b'production{"alias":{"$eq":"}},"action":{"kind":"slack","title":"}},"action":{"webhook":"","payload":{',
        b'"version":"${artifact_version_string}","author":"${event_author}","alias":"${alias}","',
        b'"}},"cooldown":null,"rate_limit":null}]',
    )
)
# Shared by threads: it is never written to, only copied.
_packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, _WORDS)


def compress(text: bytes) -> bytes:
    """Compress a definition."""
    packer = _packer.copy()
    return packer.compress(text) + packer.flush()


def decompress(packed: bytes) -> bytes:
    """The text that `compress` of this same release was given."""
    unpacker = zlib.decompressobj(_WINDOW, _WORDS)
    return unpacker.decompress(packed) + unpacker.flush()
