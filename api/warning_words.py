"""What a result's warnings say to people, on pages and in reports."""

WARNINGS = {
    "low_resolution": "The photograph has fewer pixels than the network looks at. Details that matter may be missing.",
    "attention_off_lesion": (
        "What raised the melanoma probability lies mostly beside the lesion, as far as its colour tells. Look at the"
        " heatmap before you rely on this result."
    ),
    "dark": "The photograph is dark. Take it again with more light.",
    "glare": "Much of the photograph is pure white. Take it again without flash or reflections.",
    "blurred": "The photograph is blurred. Take it again, in focus and with a still hand.",
    "no_lesion_in_view": "The photograph is nearly even: no lesion seems to be in view.",
    "hairy": "Hairs or other dark lines cover much of the photograph. Clear hairs away, and take it again.",
    "not_dermoscopic": (
        "This is not like the dermoscopy images that the model learnt from. If it was taken with a telephone, or shows"
        " something else, do not rely on this result. The model’s card says how often this warning is right."
    ),
}


def say_warning(code: str) -> str:
    return WARNINGS.get(code) or f"{code.replace('_', ' ').capitalize()}."
