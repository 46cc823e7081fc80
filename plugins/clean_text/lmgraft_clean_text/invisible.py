"""Characters that are not seen, and where they matter all the same.

- ZERO WIDTH NON-JOINER stays between letters of scripts whose letters join or whose consonants stack (Arabic and its
  kin, Mongolian, the scripts of India, Tibet and South-East Asia): Persian spells with it (RFC 5892, appendix A.1,
  simplified from joining types to scripts). One of a run is enough.
- ZERO WIDTH JOINER stays after such a letter (A.2) and between emoji that it makes one of (UTS 51).
- ZERO WIDTH SPACE stays between letters of scripts that write words without spaces.
- Tag characters stay where they are a flag's (UTS 51, emoji tag sequences).
- Byte order marks, soft hyphens, word joiners, invisible operators, the Mongolian vowel separator elsewhere than in
  Mongolian, and deprecated format characters are taken out everywhere.

Marks of writing direction (UAX 9) are apart: they matter in mixed Arabic and Hebrew text, and are taken out when told.
"""

from __future__ import annotations

import re

__all__ = ["BIDI", "INVISIBLE", "TAGS"]

#: Letters and marks of scripts in which a joiner changes what is read.
_JOINING = (
    "\u0600-\u0604\u0610-\u061a\u0620-\u08ff\u0900-\u0dff\u0f00-\u109f\u1700-\u18af\u1900-\u1c4f\ua840-\ua87f"
    "\ua8e0-\ua8ff\ua980-\uaaff\uabc0-\uabff\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc\U00010a00-\U00010fff"
    "\U00011000-\U00011fff\U0001e900-\U0001e95f"
)
#: Scripts without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, Tai scripts, Javanese, Balinese.
_UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\uaadf"
_PICTURE = "\u00a9\u00ae\u2190-\u27bf\u2900-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"

INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0\U0001d173-\U0001d17a]"
    "|(?<![\u1800-\u18af])\u180e"
    # Taken out unless the letter before and the next thing seen are of such a script.
    f"|\u200c(?:(?<![{_JOINING}]\u200c)|(?![\u200b-\u200d]*[{_JOINING}]))"
    f"|\u200b(?:(?<![{_UNSPACED}]\u200b)|(?![\u200b-\u200d]*[{_UNSPACED}]))"
    f"|\u200d(?<![{_JOINING}]\u200d)(?:(?<![{_PICTURE}\ufe0f\U000e007f]\u200d)|(?![{_PICTURE}]))"
)
BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: Group 1: a flag with its tags, which stays.
TAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f)|[\U000e0000-\U000e007f]")
