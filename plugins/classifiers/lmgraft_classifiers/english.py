"""English words that a text can hardly hold by accident, for the rule that works without a list. They are offensive.

Left out are words that are harmless elsewhere (names of animals, foods and places; medical and technical terms), which
cost whole kinds of pages where they are listed (Dodge et al. 2021, arXiv:2104.08758, section 5.3). ``*`` stands for any
ending. Chosen by the authors of this package; no other list was copied.
"""

from __future__ import annotations

__all__ = ["WORDS"]

WORDS = (
    # Obscenities
    *(
        "fuck*",
        "motherfuck*",
        "muthafuck*",
        "clusterfuck*",
        "mindfuck*",
        "shit",
        "shits",
        "shitty",
        "shitting",
        "shite",
    ),
    *("bullshit*", "horseshit", "dipshit*", "shithead*", "shithole*", "shitface*", "cunt*", "twat", "twats", "wanker*"),
    *("tosspot*", "arsehole*", "asshole*", "asshat*", "asswipe*", "dumbass*", "jackass*", "fatass*", "bitch*"),
    *("sonofabitch", "bastard*", "dickhead*", "dickwad*", "douchebag*", "scumbag*", "cocksuck*"),
    *("cumshot*", "cumslut*", "jizz", "blowjob*", "handjob*", "slut*", "whore*", "skank*", "bukkake", "milf", "milfs"),
    *("stfu", "gtfo", "kys", "piss off", "suck my dick", "kill yourself", "rape you", "go to hell and die"),
    # Slurs
    *("nigger*", "nigga", "niggas", "niggaz", "sandnigger*", "faggot*", "faggy", "kike", "kikes", "gook", "gooks"),
    *("wetback*", "raghead*", "towelhead*", "beaner", "beaners", "shemale*", "trannie*", "tranny", "dykes", "libtard*"),
    *("fucktard*", "mongoloid retard", "retards", "subhuman scum", "white trash", "jungle bunny", "camel jockey"),
)
