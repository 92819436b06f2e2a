"""The fates that many broken files share."""

DAMAGED, UNSUPPORTED = "intake image_header_damaged", "intake image_type_unsupported"
TOO_LARGE, TOO_SMALL, ANIMATED = "intake image_too_large", "intake image_too_small", "intake image_animated"
UNDECODABLE, TRUNCATED, FLAT = "decoding image_damaged", "decoding image_truncated", "decoding image_flat"
LANDSCAPE, PORTRAIT = "taken 320 x 240", "taken 240 x 320"
