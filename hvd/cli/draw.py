"""`hvd draw`: a prepared frame as a picture, the quickest look at whether geometry and data are right."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hvd import log
from hvd.cli.options import DEFAULT_STORE, Json, StorePath, check_file, emit
from hvd.errors import InputError, UsageError

if TYPE_CHECKING:
    from cache.artifact import Artifact
    from cache.store import Store
    from hvd.datasets.prepared import Frame, Frames
    from hvd.drawing import BoxSet, CameraPanel, Forward

_SUFFIXES = (".png", ".jpg", ".jpeg")
_FORWARD: "dict[str, Forward]" = {"nuscenes": "y", "semkitti": "x", "kitti": "x"}  # the LiDAR axis that points ahead


def register(app: typer.Typer) -> None:
    """Add `draw` to `app`."""
    app.command()(draw)


def draw(
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write: .png or .jpg.")],
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Frames artifact; default: the newest.")] = None,
    frame: Annotated[int, typer.Option(help="Number of the frame, from 0.")] = 0,
    results: Annotated[
        Path | None, typer.Option("--results", help="KITTI: folder of a detector's result files, to draw too.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out detections that are less sure.")] = None,
    store: StorePath = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Draw a frame's points over its images, coloured by depth, and from above; for KITTI with its boxes."""
    from PIL import Image

    from cache.store import Store
    from hvd.cli.boxes import find_boxes, label_folder
    from hvd.datasets.prepared import Frames
    from hvd.drawing import draw_frame
    from stages.intact import require_intact

    check_file(out, "picture", _SUFFIXES)
    if min_score is not None and results is None:
        raise UsageError("--min-score is of detections", hint="name their folder: --results")
    if results is not None and not results.is_dir():
        raise InputError("no such folder", where=results)
    opened = Store(store)
    detected_in = None if results is None else frames_behind(opened, results)
    item = find_frames(opened, key, None if results is None else "kitti", detected_in)
    with item.reading():
        require_intact(item)
        frames = Frames(item.path)
        if not 0 <= frame < len(frames):
            raise UsageError(f"no frame {frame}", why=f"{item.key[:8]} has frames 0 to {len(frames) - 1}")
        shown = frames.frame(frame)
        panels = camera_panels(opened, item, frames, shown, frame)
        boxes: list[BoxSet] = []
        if frames.attributes["dataset"] == "kitti":
            with label_folder(opened, item) as folder:
                boxes, lines = find_boxes(folder, results, min_score, shown)
            panels = [replace(panel, lines=tuple(lines)) for panel in panels]
        elif results is not None:
            raise UsageError("--results is for frames of kitti", where=item.key[:8])
        title = f"{frames.attributes['dataset']}  {shown.scene}  frame {frame}  {shown.token}"
        picture = draw_frame(title, shown.point, panels, _FORWARD[frames.attributes["dataset"]], boxes)
    Image.fromarray(picture).save(out)
    if json_:
        counts = {"pairs": len(shown.pairs), "boxes": sum(len(group.names) for group in boxes)}
        emit({"path": str(out), "frames": item.key, "frame": frame, "token": shown.token, **counts})
    else:
        log.info(f"{out}: frame {frame} of {item.key[:8]}, {len(shown.point)} points, {len(shown.pairs)} on images")


def frames_behind(store: "Store", results: Path) -> str | None:
    """The digest of the frames that a detector's results are of; None for a folder that is in no artifact."""
    place = results.resolve()
    evaluations = store.artifacts("eval-detection")
    inside = (found for found in evaluations if place.is_relative_to(found.path.resolve()))
    return next((found.key_inputs["inputs"]["frames"] for found in inside), None)


def find_frames(store: "Store", key: str | None, dataset: str | None = None, digest: str | None = None) -> "Artifact":
    """The frames artifact of `key`, or the newest, of that data set and digest where they are named.

    Raises:
        UsageError: the key is of another stage, or of other frames than detections are of.
        InputError: there is none.
    """

    def fits(found: "Artifact") -> bool:
        return dataset in (None, found.key_inputs["config"]["dataset"]) and digest in (None, found.digest)

    item = store.newest("frames", fits) if key is None else store.resolve(key)
    if item is not None and item.stage == "frames" and digest not in (None, item.digest):
        raise UsageError(f"the detections are of other frames than {item.key[:8]}", hint="leave the key out")
    if item is None:
        raise InputError("no frames artifact", where=store.root, hint=f"run: hvd prep {dataset or 'nuscenes'}")
    if item.stage != "frames":
        raise UsageError(f"{item.key[:8]} is of stage {item.stage}", hint="name one of stage frames: hvd ls frames")
    return item


def camera_panels(store: "Store", item: "Artifact", frames: "Frames", shown: "Frame", row: int) -> "list[CameraPanel]":
    """Each camera's image and points, in the order of `arrange`; none if the data set has no cameras."""
    from hvd.datasets.prepared import Arrays
    from hvd.drawing import CameraPanel
    from stages.intact import require_intact

    if not len(shown.intrinsics):
        return []
    source = find_images(store, item)
    with source.reading():
        require_intact(source)
        images = Arrays(source.path, "image")[row]
    panels = []
    for camera in arrange(shown):
        mine = shown.pairs.camera == camera
        panels.append(
            CameraPanel(
                name=frames.attributes["cameras"][camera],
                image=images[camera],
                original_size=tuple(frames.attributes["image_size"]),
                uv=shown.pairs.uv[mine],
                depth=shown.pairs.depth[mine],
            )
        )
    return panels


def find_images(store: "Store", item: "Artifact") -> "Artifact":
    """The newest images of the very data that the frames `item` were made from, bad ones left out or not as there.

    Raises:
        InputError: there are none.
    """
    data = item.key_inputs["inputs"]["data"]
    count = item.details["metrics"].get("frames")  # of two runs, one of which left out bad frames

    def fits(images: "Artifact") -> bool:
        same: bool = images.key_inputs["inputs"]["data"] == data and images.details["metrics"].get("frames") == count
        return same

    found = store.newest("images", fits)
    if found is None:
        hint = f"run: {prep_again(item)}"
        raise InputError(f"no images of the data behind frames {item.key[:8]}", where=store.root, hint=hint)
    return found


def prep_again(item: "Artifact") -> str:
    """The command that prepares all of the data behind the frames `item`."""
    config, root = item.key_inputs["config"], item.details["sources"].get("data")
    options = {"--recipe": item.details["recipe"], "--root": root or "world"}  # the world is an artifact
    if root:
        options["--version"] = config.get("version")  # the world has none to ask for
    flags = {"--full-hash": item.details.get("full_hash"), "--skip-bad": config.get("skip_bad")}
    words = [word for pair in options.items() if pair[1] for word in pair] + [name for name in flags if flags[name]]
    return shlex.join(["hvd", "prep", config["dataset"], *words])


def arrange(shown: "Frame") -> list[int]:
    """Camera numbers as they surround the car: those that look ahead, then those that look back, each left to right."""
    import numpy as np

    ahead, left = shown.ego_from_camera[:, :2, 2].T  # the optical axis; the ego frame has x ahead and y to the left
    back = ahead < -1e-3
    angle = np.arctan2(left, ahead)  # 0 ahead, positive to the left
    return sorted(range(len(back)), key=lambda k: (back[k], angle[k] % (2 * np.pi) if back[k] else -angle[k]))
