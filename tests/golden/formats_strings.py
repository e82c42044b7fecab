"""2,000 varied strings, the same everywhere: words, scripts, emoji, HTML entities, broken encodings, control characters."""

from __future__ import annotations

import random

ALL = (
    "a photo of the red apple cat's dog isn't they'll we've I'm you'd rock'n'roll naïve café Ünïcödé façade Straße ÅNGSTRÖM "
    "3 42 1,000,000 2½ ² ① Ⅷ #hashtag @someone e-mail under_score C++ http://example.org/a?b=c&d=e 50% $9.99 €5 №7 "
    "&amp; &lt;b&gt; &quot;hi&quot; &amp;amp; &eacute; &#39; &#x1F600; &nbsp; &notareal; AT&T "
    "schÃ¶n doesnâ€™t â€œquotedâ€\x9d ’curly’ “double” … — – ﬁne ﬂow Ａｂｃ "
    "кошка Собака ΑΒΓ ὀδός Σίσυφος שלום مرحبا بالعالم हिन्दी नमस्ते ไทย 你好 世界 東京 日本語 한국어 서울 ㎏ ｶﾀｶﾅ "
    "😀 🐈‍⬛ 👩🏽‍🚀 🇩🇪 ❤️ ☕ ✈ ⚽ 🏳️‍🌈 "
    "<|startoftext|> <start_of_text> <end_of_text> <|endoftext|> 's 'T 'RE ''' !!! ?! ... ''s i̇stanbul İstanbul ǅ ß ſ ŉ"
)
WORDS = ALL.split()
GAPS = (" ", " ", " ", " ", "  ", "\t", "\n", "\r\n", "", "-", "\u00a0", "\u3000", "\u200b", ", ")
ODD = "\x00\x01\x07\x1b\x1f\x7f\x85\xad\u200d\u2028\u202e\ufeff\ufffd\U000e0001\U0010fffd\u0301\u0958\u212b"


def strings(count: int = 2000) -> list[str]:
    """The strings; about one in eight has odd characters strewn in, one in ten is longer than 77 tokens."""
    draw = random.Random(20261121)
    made = ["", " ", "a", "A" * 300, "!" * 200, "<end_of_text>", "é", "e\u0301", "\u1e9b\u0323"]
    while len(made) < count:
        length = draw.randrange(60, 140) if draw.random() < 0.1 else draw.randrange(1, 14)
        text = "".join(draw.choice(WORDS) + draw.choice(GAPS) for _ in range(length))
        if draw.random() < 0.125:
            at = draw.randrange(len(text) + 1)
            text = text[:at] + "".join(draw.choice(ODD) for _ in range(draw.randrange(1, 4))) + text[at:]
        if draw.random() < 0.1:
            text += "".join(chr(draw.randrange(0x20, 0x2FFF)) for _ in range(draw.randrange(1, 12)))
        made.append(text)
    return made
