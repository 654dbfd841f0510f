"""Convolutional networks on Fashion-MNIST: channels go, and LiteRT files are faster.

    python benchmarks/vision.py          # all; some hours on two cores
    python benchmarks/vision.py --networks mobilenet --seeds 0 --runs dense importance-0.5

MobileNetV2 of half width (keras.applications) and a ResNet of 14 layers, with 20,000
pictures of 32 by 32 pixels. The dense network is trained first. Whatever is pruned starts from it
and is trained for as many epochs more, as is the dense one (`longer`); `without` is pruned and
repaired, and not trained; `tfmot` has a share of each kernel set to zero by
tensorflow-model-optimization (MobileNetV2 alone). What is judged is the LiteRT files, for one
picture: float, and int8 with int8 activations. Models that are trained and runs that are finished
are not made again; results are written to benchmarks/results/vision.{json,md} after each.

With `--train` models are trained and cut, and nothing is measured: on another machine and with any
backend of Keras, say. Without it the rest is done with what is in the folder.
"""

import json
import time
from pathlib import Path

import keras
import numpy as np
from paired import in_points
from progress import Log
from reports import about, arguments, in_words, smoke_folder, write
from small_minilm import finished, once
from timed_files import figures_of_file, file_of, times

import tfprune
from tfprune.callbacks import GroupLasso, ImportancePruning
from tfprune.datasets import fashion_mnist
from tfprune.files import atomic_write
from tfprune.litert import Runner

HERE = Path(__file__).parent
SIZE, BATCH, RATE = 32, 64, 1e-3
PICTURES, EPOCHS, MORE = 20_000, 8, 3
SHARES = (0.3, 0.5, 0.7)  # Of the FLOPs, which go.
KINDS = {"float": None, "int8": "int8"}


def mobilenet():
    """MobileNetV2 of half width."""
    return keras.applications.MobileNetV2(
        (SIZE, SIZE, 1), alpha=0.5, weights=None, classes=10, classifier_activation=None
    )


def resnet():
    """The ResNet for small pictures of He et al., CVPR 2016, section 4.2, with 14 layers.

    Where the size changes, a convolution is in the shortcut, as in those for large pictures.
    """
    inputs = keras.Input((SIZE, SIZE, 1))
    x = keras.layers.ReLU()(_normalized_conv(inputs, 16))
    for filters, stride in ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        y = keras.layers.ReLU()(_normalized_conv(x, filters, stride))
        y = _normalized_conv(y, filters)
        if stride > 1:
            x = _normalized_conv(x, filters, stride, size=1)
        x = keras.layers.ReLU()(keras.layers.Add()([x, y]))
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(pooled), name="resnet")


def _normalized_conv(x, filters, stride=1, size=3):
    conv = keras.layers.Conv2D(filters, size, stride, padding="same", use_bias=False)
    return keras.layers.BatchNormalization()(conv(x))


NETWORKS = {"mobilenet": mobilenet, "resnet": resnet}


def untrained(network):
    """A network whose moving means and variances follow within some hundred steps.

    Those of MobileNetV2 take several thousand, with a momentum of 0.999: after short training its
    outputs in inference are next to chance.
    """
    model = NETWORKS[network]()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    return model


def importance(share, work, **options):
    """Prunes in four rounds in the first half of the fit, by gradient importance."""
    return ImportancePruning(
        target=tfprune.Flops(1 - share),
        data=(work.x[:1024], work.y[:1024]),
        rounds=4,
        start=0.05,
        stop=0.5,
        verbose=0,
        **options,
    )


def reconstruction(share, work, **options):
    """Prunes at the beginning of the fit, and fits what reads the channels to those that stay."""
    return ImportancePruning(
        target=tfprune.Flops(1 - share),
        data=work.x[:1024],
        criterion="reconstruction",
        repair=work.x[:1024],
        verbose=0,
        **options,
    )


def group_lasso(share, work):
    """Group lasso whose strength meets the target in the first half of the fit."""
    return GroupLasso(target=tfprune.Flops(1 - share), verbose=0)


CALLBACKS = {
    "longer": None,
    **{f"importance-{s}": lambda work, s=s: importance(s, work) for s in SHARES},
    **{f"group_lasso-{s}": lambda work, s=s: group_lasso(s, work) for s in SHARES},
    **{f"reconstruction-{s}": lambda work, s=s: reconstruction(s, work) for s in SHARES},
    "importance-0.5-by-8": lambda work: importance(0.5, work, round_to={"channels": 8}),
    "reconstruction-0.5-by-8": lambda work: reconstruction(0.5, work, round_to={"channels": 8}),
}
WITHOUT = {f"without-{share}": share for share in SHARES}
TFMOT = {f"tfmot-{share}": share for share in (0.5, 0.8)}  # Of the weights, which become zero.
RUNS = ["dense", *CALLBACKS, *WITHOUT, *TFMOT]


class Turned(keras.utils.PyDataset):
    """Pictures in batches, in another order each epoch, half of them turned around."""

    def __init__(self, x, y, seed):
        super().__init__()
        self.x, self.y, self.draw = x, y, np.random.default_rng(seed)
        self.order = self.draw.permutation(len(x))

    def __len__(self):
        return -(-len(self.x) // BATCH)

    def __getitem__(self, index):
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        turned = self.draw.random((len(chosen), 1, 1, 1)) < 0.5
        x = self.x[chosen]
        return np.where(turned, x[:, :, ::-1], x), self.y[chosen]

    def on_epoch_end(self):
        """Deals them out anew."""
        self.order = self.draw.permutation(len(self.x))


class Vision:
    """One network, trained with one seed.

    Args:
        folder: Where finished runs are kept.
        network: A key of `NETWORKS`.
        seed: Of weights and of the order of pictures; the pictures are the same.
        tiny: Few pictures and epochs, as for `--smoke`.
    """

    def __init__(self, folder, network, seed, tiny=False):
        self.network, self.seed = network, seed
        self.folder = folder / f"{network}-seed-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.epochs, self.more = (1, 1) if tiny else (EPOCHS, MORE)
        if tiny:
            draw = np.random.default_rng(0)
            self.x = draw.uniform(-1, 1, (128, SIZE, SIZE, 1)).astype("float32")
            self.y = draw.integers(0, 10, 128)
            self.test = self.x[:32], self.y[:32]
        else:
            pictures = fashion_mnist()
            self.x, self.y = prepared(*pictures.train)
            self.x, self.y = self.x[:PICTURES], self.y[:PICTURES]
            self.test = prepared(*pictures.test)

    def fit(self, name, model, epochs, callback=None):
        """Trains a model, half of the pictures turned around; gives the minutes."""
        keras.utils.set_random_seed(self.seed)
        data = Turned(self.x, self.y, self.seed)
        steps = epochs * len(data)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, int(0.9 * steps), warmup_target=RATE, warmup_steps=int(0.1 * steps)
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-3)
        model.compile(optimizer, loss, metrics=["accuracy"])
        callbacks = [c for c in (callback, Log(f"{self.network} {name}")) if c is not None]
        started = time.perf_counter()
        model.fit(data, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
        return (time.perf_counter() - started) / 60

    def dense(self):
        """The trained dense network; it is trained where its file is not there."""
        path = self.folder / "dense.keras"
        if not path.exists():
            keras.utils.set_random_seed(self.seed)
            model = untrained(self.network)
            self.fit("dense", model, self.epochs)
            with atomic_write(path) as temporary:
                model.save(temporary)
        return keras.saving.load_model(path, compile=False)

    def made(self, name):
        """The model of a run, cut, and the minutes that `fit` or `prune` took; it is kept."""
        path, minutes = self.folder / f"{name}.keras", self.folder / f"{name}.minutes"
        if name == "dense":
            return self.dense(), 0.0
        if not path.exists():
            model, took = self._made(name)
            with atomic_write(minutes) as temporary:
                temporary.write_text(json.dumps(took))
            with atomic_write(path) as temporary:
                model.save(temporary)
        return keras.saving.load_model(path, compile=False), json.loads(minutes.read_text())

    def _made(self, name):
        model = self.dense()
        if name in WITHOUT:
            started = time.perf_counter()
            target = tfprune.Flops(1 - WITHOUT[name])
            small = tfprune.prune(model, target, (self.x[:1024], self.y[:1024]), verbose=0)
            return small, (time.perf_counter() - started) / 60
        make = CALLBACKS[name]
        minutes = self.fit(name, model, self.more, make and make(self))
        return (tfprune.rebuild(model) if make else model), minutes

    def right(self, file):
        """Picture by picture, whether a file is right: zeros and ones."""
        runner = Runner(file)
        x, y = self.test
        return [int(runner.run([x[i : i + 1]])[0].argmax() == label) for i, label in enumerate(y)]

    def run(self, name):
        """The figures of a run; it is made if they are not there."""

        def make():
            if name in TFMOT:
                return self._zeros(name)
            model, minutes = self.made(name)

            def write_file(file, kind):
                quantize = KINDS[kind]
                some = self.x[:200] if quantize else None
                tfprune.export(
                    model, file, quantize, some, batch_size=1, strict=quantize is not None
                )

            return {
                "minutes": minutes,
                "flops": tfprune.count_flops(model),
                "parameters": tfprune.count_parameters(model),
                "files": self._files(name, KINDS, write_file),
            }

        return once(self.folder / f"{name}.json", make)

    def _zeros(self, name):
        """The figures of a run of tfmot; its file without zeros is one more."""
        import vision_tf_keras

        dense = self.dense()
        keras.utils.set_random_seed(self.seed)
        data = Turned(self.x, self.y, self.seed)
        model, figures = vision_tf_keras.pruned(
            dense, data, self.more, TFMOT[name], RATE, f"{self.network} {name}"
        )

        def write_file(file, kind):
            vision_tf_keras.write_file(model, file, kind, self.x[:200])

        return {
            **figures,
            "flops": tfprune.count_flops(dense),
            "parameters": tfprune.count_parameters(dense),
            "files": self._files(name, [*KINDS, "sparse"], write_file),
        }

    def _files(self, name, kinds, write_file):
        """Writes the files of a run, and gives the figures of each by its kind."""
        files = {}
        for kind in kinds:
            file = file_of(self.folder, name, kind)
            write_file(file, kind)
            files[kind] = {"bytes": file.stat().st_size, "right": self.right(file)}
        return files


def prepared(images, labels):
    """Pictures with a border that makes them 32 by 32, from -1 to 1."""
    border = (SIZE - images.shape[1]) // 2
    images = np.pad(images, ((0, 0), (border, border), (border, border)))
    return (images[..., None] / 127.5 - 1).astype("float32"), labels.astype("int32")


def results_of(figures, timed):
    """What is kept of one network: for each run its figures and those of its files, by seed."""
    rows = {}
    for name, each in figures.items():
        control = "dense" if name in WITHOUT else "longer"
        against = [] if name in ("dense", "longer") else [control]
        kinds = next(iter(each.values()))["files"]
        files = {kind: figures_of_file(figures, timed, name, kind, against) for kind in kinds}
        rows[name] = {
            **{k: {s: f[k] for s, f in each.items()} for k in ("minutes", "flops", "parameters")},
            "files": files,
        }
    return {"dense_ms": {s: t["ms"] for s, t in timed.items() if t}, "runs": rows}


def table(results):
    """The results in Markdown."""
    sizes = results["sizes"]
    lines = [
        "# Convolutional networks: channels that go",
        "",
        f"Fashion-MNIST, {sizes['training']:,} pictures of {SIZE} by {SIZE} pixels, "
        f"{sizes['epochs']} epochs, then {sizes['more']} more under pruning; {sizes['test']:,} "
        f"test pictures; {in_words(results)}.",
    ]
    for network, found in results["networks"].items():
        lines += [
            "",
            f"## {network}",
            "",
            "| run | file | accuracy | difference | FLOPs | parameters | MB | time | of the ideal "
            "| minutes |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        dense = found["runs"].get("dense")
        for name, row in found["runs"].items():
            for kind, file in row["files"].items():
                lines.append(f"| {' | '.join(_cells(name, kind, row, file, dense))} |")
    lines += [
        "",
        "accuracy: of the files, the mean over seeds. difference: in points, to the run in "
        "brackets, from files of the same kind, with the standard error where there are two seeds "
        "(test pictures and seeds together); bold where it is more than two of them. FLOPs, "
        "parameters: to those of the dense network. MB: 10⁶ bytes. time: the median of ratios to "
        "the dense float file, one picture, one thread. of the ideal: the share of the time of the "
        "dense file of the same kind that was saved, to the share of the FLOPs. minutes: of `fit` "
        "or `prune`, beside other work. longer: the dense network, trained for as long as the "
        "pruned ones. by-8: a number of channels that 8 divides. tfmot: a share of each kernel is "
        "zero; sparse: the float file without the zeros.",
    ]
    return "\n".join(lines) + "\n"


def _cells(name, kind, row, file, dense):
    pairs = "; ".join(f"{in_points(p)} ({o})" for o, p in file["against"].items())
    shares = {key: _share(row[key], dense and dense[key]) for key in ("flops", "parameters")}
    slow = dense and kind in KINDS and _share(file["time"], dense["files"][kind]["time"])
    ideal = slow and shares["flops"] and shares["flops"] < 0.99
    return [
        name,
        kind,
        f"{np.mean(list(file['accuracy'].values())):.2%}",
        pairs,
        *(f"{share:.0%}" if share else "" for share in shares.values()),
        f"{np.mean(list(file['bytes'].values())) / 1e6:.2f}",
        f"{np.mean(list(file['time'].values())):.2f}" if file["time"] else "",
        f"{(1 - slow) / (1 - shares['flops']):.0%}" if ideal else "",
        f"{np.mean(list(row['minutes'].values())):.1f}",
    ]


def _share(ours, theirs):
    """The mean over seeds of a figure to that of another run, `None` if no seed has both."""
    seeds = [seed for seed in ours if seed in (theirs or {})]
    return float(np.mean([ours[s] / theirs[s] for s in seeds])) if seeds else None


def report(folder, settings, timed):
    """Reports all that is finished.

    Args:
        folder: Of all runs.
        settings: What the runs have alike.
        timed: The network and seed whose files are timed, and how often; of others what is known
            is reported.
    """
    networks = {}
    for network in NETWORKS:
        figures = finished(folder, RUNS, f"{network}-seed-*")
        if not figures:
            continue
        each = {}
        for seed in {s for of_run in figures.values() for s in of_run}:
            of_seed = {n: f[seed] for n, f in figures.items() if seed in f}
            rounds = timed.get((network, seed), 0)
            each[seed] = times(folder / f"{network}-seed-{seed}", of_seed, rounds)
        networks[network] = results_of(figures, each)
    results = {
        **about(__file__, "ai-edge-litert"),
        "sizes": settings,
        "networks": networks,
    }
    write("vision", results, table(results))


def main():
    """Makes the runs, seed by seed, and writes the report after each."""
    parser = arguments(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=HERE / "checkpoints" / "vision")
    parser.add_argument("--train", action="store_true", help="train and cut, and measure nothing")
    options = parser.parse_args()
    if options.smoke:
        options.folder, options.seeds = smoke_folder(), [0]
        options.networks = ["resnet"]
        options.runs = ["dense", "longer", "importance-0.5", "without-0.5"]
    for seed in options.seeds:
        for network in options.networks:
            work = Vision(options.folder, network, seed, options.smoke)
            settings = {
                "training": len(work.x),
                "test": len(work.test[1]),
                "epochs": work.epochs,
                "more": work.more,
            }
            runs = [n for n in options.runs if network == "mobilenet" or n not in TFMOT]
            for name in runs:
                if options.train:
                    if name not in TFMOT:
                        work.made(name)
                    continue
                work.run(name)
                last = name == runs[-1]
                rounds = (5 if options.smoke else 200) if last else 0
                report(options.folder, settings, {(network, str(seed)): rounds})


if __name__ == "__main__":
    main()
