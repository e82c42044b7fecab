"""One toolkit for contrastive image–text models over their whole life."""

__version__ = "0.1.0"
