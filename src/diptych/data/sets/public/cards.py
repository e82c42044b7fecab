"""The cards: the 38 sets that DataComp evaluates and the others that CLIP_benchmark exports.

Keys, class counts, sizes and main metrics as in DataComp's task list and in CLIP_benchmark's list of webdatasets. Homepages and licences
are those of the sets' makers.
"""

from __future__ import annotations

import functools

from diptych.data.sets.public.card import PublicCard

RESEARCH = "non-commercial research"
REGIONS = ("Asia", "Europe", "Africa", "Americas", "Oceania", "")  # FMoW's last region, "Other", does not count for the worst one

OBJECTS = (
    ("imagenet1k", "imagenet1k", "ImageNet", 1000, 50_000, "https://www.image-net.org", RESEARCH),
    ("imagenet_sketch", "imagenet_sketch", "ImageNet-Sketch", 1000, 50_889, "https://github.com/HaohanWang/ImageNet-Sketch", "MIT"),
    ("imagenetv2", "imagenetv2", "ImageNetV2", 1000, 10_000, "https://github.com/modestyachts/ImageNetV2", "MIT"),
    ("imagenet-a", "imagenet-a", "ImageNet-A", 200, 7_500, "https://github.com/hendrycks/natural-adv-examples", "MIT"),
    ("imagenet-o", "imagenet-o", "ImageNet-O", 200, 2_000, "https://github.com/hendrycks/natural-adv-examples", "MIT"),
    ("imagenet-r", "imagenet-r", "ImageNet-R", 200, 30_000, "https://github.com/hendrycks/imagenet-r", "MIT"),
    ("objectnet", "objectnet", "ObjectNet", 113, 18_574, "https://objectnet.dev", "CC BY 4.0, and not for training"),
    ("cifar10", "cifar10", "CIFAR-10", 10, 10_000, "https://www.cs.toronto.edu/~kriz/cifar.html", ""),
    ("cifar100", "vtab/cifar100", "CIFAR-100", 100, 10_000, "https://www.cs.toronto.edu/~kriz/cifar.html", ""),
    ("stl10", "stl10", "STL-10", 10, 8_000, "https://cs.stanford.edu/~acoates/stl10", ""),
    ("voc2007", "voc2007", "PASCAL VOC 2007", 20, 14_976, "http://host.robots.ox.ac.uk/pascal/VOC/voc2007", ""),
)

SETS = (
    *(
        PublicCard(name, key, title, "which object", "zero_shot", "top1", classes, size, home, licence)
        for name, key, title, classes, size, home, licence in OBJECTS
    ),
    PublicCard("caltech101", "vtab/caltech101", "Caltech-101", "which object", "zero_shot", "mean_per_class", 102, 6_085,
               "https://data.caltech.edu/records/mzrjq-6wc02", "CC BY 4.0"),
    PublicCard("fgvc_aircraft", "fgvc_aircraft", "FGVC Aircraft", "which aircraft", "zero_shot", "mean_per_class", 100, 3_333,
               "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft", RESEARCH),
    PublicCard("flowers", "vtab/flowers", "Oxford Flowers-102", "which flower", "zero_shot", "mean_per_class", 102, 6_149,
               "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"),
    PublicCard("pets", "vtab/pets", "Oxford-IIIT Pet", "which breed of cat or dog", "zero_shot", "mean_per_class", 37, 3_669,
               "https://www.robots.ox.ac.uk/~vgg/data/pets", "CC BY-SA 4.0"),
    PublicCard("cars", "cars", "Stanford Cars", "which car, by make, model and year", "zero_shot", "top1", 196, 8_041,
               "https://ai.stanford.edu/~jkrause/cars/car_dataset.html"),
    PublicCard("food101", "food101", "Food-101", "which dish", "zero_shot", "top1", 101, 25_250,
               "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101"),
    PublicCard("gtsrb", "gtsrb", "GTSRB", "which German traffic sign", "zero_shot", "top1", 43, 12_630, "https://benchmark.ini.rub.de"),
    PublicCard("sun397", "sun397", "SUN397", "which scene", "zero_shot", "top1", 397, 108_754,
               "https://vision.princeton.edu/projects/2010/SUN"),
    PublicCard("country211", "country211", "Country211", "in which country it was taken", "zero_shot", "top1", 211, 21_100,
               "https://github.com/openai/CLIP/blob/main/data/country211.md", "Creative Commons, each picture its own"),
    PublicCard("dtd", "vtab/dtd", "Describable Textures", "which texture", "zero_shot", "top1", 47, 1_880,
               "https://www.robots.ox.ac.uk/~vgg/data/dtd", "research"),
    PublicCard("eurosat", "vtab/eurosat", "EuroSAT", "which use of land, from a satellite", "zero_shot", "top1", 10, 5_400,
               "https://github.com/phelber/EuroSAT", "MIT"),
    PublicCard("resisc45", "vtab/resisc45", "RESISC45", "which scene, from the air", "zero_shot", "top1", 45, 6_300,
               "https://arxiv.org/abs/1703.00121"),
    PublicCard("pcam", "vtab/pcam", "PatchCamelyon", "whether tissue holds a metastasis", "zero_shot", "top1", 2, 32_768,
               "https://github.com/basveeling/pcam", "CC0"),
    PublicCard("mnist", "mnist", "MNIST", "which written digit", "zero_shot", "top1", 10, 10_000,
               "http://yann.lecun.com/exdb/mnist"),
    PublicCard("svhn", "vtab/svhn", "SVHN", "which digit of a house number", "zero_shot", "top1", 10, 26_032,
               "http://ufldl.stanford.edu/housenumbers", RESEARCH),
    PublicCard("renderedsst2", "renderedsst2", "Rendered SST2", "whether a review, shown as text, is positive", "zero_shot", "top1", 2,
               1_821, "https://github.com/openai/CLIP/blob/main/data/rendered-sst2.md"),
    PublicCard("clevr_count_all", "vtab/clevr_count_all", "CLEVR Counts", "how many things", "zero_shot", "top1", 8, 15_000,
               "https://cs.stanford.edu/people/jcjohns/clevr", "CC BY 4.0"),
    PublicCard("clevr_closest_object_distance", "vtab/clevr_closest_object_distance", "CLEVR Distance", "how near the nearest thing is",
               "zero_shot", "top1", 6, 15_000, "https://cs.stanford.edu/people/jcjohns/clevr", "CC BY 4.0"),
    PublicCard("kitti_closest_vehicle_distance", "vtab/kitti_closest_vehicle_distance", "KITTI Vehicle Distance",
               "how near the nearest vehicle is", "zero_shot", "top1", 4, 711, "https://www.cvlibs.net/datasets/kitti",
               "CC BY-NC-SA 3.0"),
    PublicCard("iwildcam", "wilds/iwildcam", "iWildCam (WILDS)", "which animal a camera trap saw", "zero_shot", "f1_macro", 182, 42_791,
               "https://wilds.stanford.edu", "CDLA-Permissive 1.0"),
    PublicCard("camelyon17", "wilds/camelyon17", "Camelyon17 (WILDS)", "whether tissue of another hospital holds a tumour", "zero_shot",
               "top1", 2, 85_054, "https://wilds.stanford.edu", "CC0"),
    PublicCard("fmow", "wilds/fmow", "FMoW (WILDS)", "which use of a place, from a satellite; the worst of five regions", "zero_shot",
               "worst_group", 62, 22_108, "https://wilds.stanford.edu", "FMoW Challenge Public License", 0, REGIONS),
    PublicCard("dollar_street", "fairness/dollar_street", "Dollar Street", "which household thing; the worst group of income",
               "zero_shot", "worst_group_top5", 58, 3_503, "https://www.gapminder.org/dollar-street", "CC BY 4.0", 0),
    PublicCard("geode", "fairness/geode", "GeoDE", "which thing; the worst region", "zero_shot", "worst_group", 40, 12_488,
               "https://geodiverse-data-collection.cs.princeton.edu", "CC BY 4.0", 0),
    PublicCard("flickr30k", "flickr30k", "Flickr30k", "picture and caption find each other", "retrieval", "mean_r@1", 0, 1_000,
               "https://shannon.cs.illinois.edu/DenotationGraph", RESEARCH),
    PublicCard("mscoco_captions", "mscoco_captions", "MS-COCO captions", "picture and caption find each other", "retrieval", "mean_r@1",
               0, 5_000, "https://cocodataset.org", "annotations CC BY 4.0"),
    PublicCard("winogavil", "misc/winogavil", "WinoGAViL", "which pictures belong to a cue", "", "jaccard", 0, 3_563,
               "https://winogavil.github.io", "CC BY 4.0"),
    PublicCard("flickr8k", "flickr8k", "Flickr8k", "picture and caption find each other", "retrieval", "mean_r@1", 0, 1_000,
               "https://doi.org/10.1613/jair.3994", RESEARCH, datacomp=False),
    PublicCard("fer2013", "fer2013", "FER2013", "which feeling a face shows", "zero_shot", "top1", 7, 7_178,
               "https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge", datacomp=False),
    PublicCard("diabetic_retinopathy", "vtab/diabetic_retinopathy", "Diabetic Retinopathy", "how severe", "zero_shot", "top1", 5, 42_670,
               "https://www.kaggle.com/c/diabetic-retinopathy-detection", datacomp=False),
    PublicCard("dmlab", "vtab/dmlab", "DMLab", "what lies how far ahead", "zero_shot", "top1", 6, 22_735,
               "https://github.com/google-research/task_adaptation", datacomp=False),
    *(
        PublicCard(f"dsprites_label_{what}", f"vtab/dsprites_label_{what}", f"dSprites {what.replace('_', ' ')}", asks, "zero_shot", "top1",
                   classes, 73_728, "https://github.com/google-deepmind/dsprites-dataset", "Apache-2.0", datacomp=False)
        for what, asks, classes in (
            ("orientation", "how a shape is turned", 40), ("x_position", "how far right", 32), ("y_position", "how far down", 32)
        )
    ),
    *(
        PublicCard(f"smallnorb_label_{what}", f"vtab/smallnorb_label_{what}", f"SmallNORB {what}", asks, "zero_shot", "top1", classes,
                   12_150, "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small", RESEARCH, datacomp=False)
        for what, asks, classes in (("azimuth", "from which side", 18), ("elevation", "from how high", 9))
    ),
)  # fmt: skip

ALIASES = {
    "imagenet": "imagenet1k",
    "imagenet_1k": "imagenet1k",
    "imagenet_v2": "imagenetv2",
    "coco_captions": "mscoco_captions",
    "mscoco": "mscoco_captions",
    "mscoco_2014_5k_test_image_text_retrieval": "mscoco_captions",
    "flickr_1k_test_image_text_retrieval": "flickr30k",
    "stanford_cars": "cars",
    "oxford_flowers102": "flowers",
    "oxford_pets": "pets",
    "patch_camelyon": "pcam",
    "fgvc": "fgvc_aircraft",
}


@functools.cache
def by_folder() -> dict[str, PublicCard]:
    """Cards by what is left of a folder's name without its prefixes."""
    cards = {card.name: card for card in SETS}
    return {name.replace("-", "_"): card for name, card in cards.items()} | {alias: cards[name] for alias, name in ALIASES.items()}
