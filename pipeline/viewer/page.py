"""The live page of a subject's results: scene and time line for everybody, the avatar for each one's own view."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import viser

from pipeline.avatar.data.pictures import eye_poses
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.eyes import SIZE
from pipeline.cameras.orbit import Frame, Picture
from pipeline.errors import DataError, PipelineError
from pipeline.head.model.pose import centre_up_front
from pipeline.head.model.prior import within_reach
from pipeline.mesh.mesh import Mesh
from pipeline.motion.retarget import home
from pipeline.raster.fragments import Rasterizer
from pipeline.settings.rig import RigSettings
from pipeline.viewer.avatars import Avatars
from pipeline.viewer.controls import Controls
from pipeline.viewer.frusta import frustum_length, show_frusta
from pipeline.viewer.render import Head, draft, from_view, refined
from pipeline.viewer.results import Results
from pipeline.viewer.surface import coloured, colours
from pipeline.viewer.turns import Job, Turns

REST = 0.4  # seconds without a move of the camera after which the picture is refined
VIEW_HEIGHT = 480  # pixels of the picture behind the scene
PLAY_SECONDS = 1 / 8
LOOK_SECONDS = 5.0  # between two looks at what there is
SCENE = "scene"
LIVE_MM = 4.0  # edge of a marching cubes cell of meshes made on the way: 0.2 s


class Page:
    """Shows results on a server. All work that takes time is done by one worker, in turns."""

    def __init__(
        self,
        server: viser.ViserServer,
        results: Results,
        head: Head | None,
        controls: Controls,
        avatars: Avatars,
        rasterizer: Rasterizer,
        rig: RigSettings,
    ):
        self.server, self.results, self.head = server, results, head
        self.controls, self.avatars, self.rasterizer = controls, avatars, rasterizer
        self.picture = Picture(rig.width, rig.height, rig.metres)
        self.turns = Turns()
        self.shown: tuple[Mesh, np.ndarray, np.ndarray] | None = None  # what the avatar renders: mesh, code, eyes
        self._avatar_shown: Avatar | None = None  # the avatar that was shown last
        self.frames = 0  # pictures of the avatar sent to any browser
        self._clients: dict[int, Client] = {}
        self._stopped = threading.Event()
        self.frame = self._frame(rig)
        self.frustum = frustum_length(np.stack([camera.centre for camera in results.rig.cameras]))
        self._place_first_camera()
        self._listen()
        self.turns.ask(SCENE, self._show_scene)
        threading.Thread(target=self._play, name="play", daemon=True).start()

    def stop(self) -> None:
        """End the worker and the clock."""
        self._stopped.set()
        self.turns.stop()

    def _frame(self, rig: RigSettings) -> Frame:
        """Where the head is: of the identity, else before the cameras, where their axes meet."""
        if self.results.identity:
            rest = Frame.upright(*(part for part in centre_up_front(home(self.results.identity))))
            return rest.shifted(rig.shift_up, rig.shift_front)
        cameras = self.results.rig.cameras
        poses = np.stack([camera.world_from_camera for camera in cameras])
        axes, eyes = poses[:, :3, 2], poses[:, :3, 3]
        across = np.eye(3) - axes[:, :, None] * axes[:, None]
        centre = np.linalg.lstsq(across.sum(0), np.einsum("ijk,ik->j", across, eyes), rcond=None)[0]
        return Frame.upright(centre, -poses[:, :3, 1].mean(0), eyes.mean(0) - centre)

    def _place_first_camera(self) -> None:
        distance = np.mean([np.linalg.norm(camera.centre - self.frame.centre) for camera in self.results.rig.cameras])
        self.server.scene.set_up_direction(self.frame.up)
        first = self.server.initial_camera
        side = np.cross(self.frame.front, self.frame.up)
        # past the cameras, which stand before the face
        away = 2.0 * self.frame.front + 1.1 * side + 0.5 * self.frame.up
        first.position, first.look_at = self.frame.centre + distance * away, self.frame.centre
        first.up, first.fov, first.near = self.frame.up, np.radians(30), 0.01

    def _listen(self) -> None:
        controls = self.controls

        @controls.sequence.on_update
        def _(_: object) -> None:
            controls.change_sequence()
            self.change()

        shown = [controls.step, controls.cameras, controls.cloud, controls.mesh, controls.colour, controls.avatar]
        for handle in (*shown, *controls.sliders):
            handle.on_update(lambda _: self.change())

        @controls.reset.on_click
        def _(_: object) -> None:
            for slider in controls.sliders:
                slider.value = 0.0
            self.change()

        @self.server.on_client_connect
        def _(client: viser.ClientHandle) -> None:
            self._clients[client.client_id] = Client(self, client)

        @self.server.on_client_disconnect
        def _(client: viser.ClientHandle) -> None:
            if gone := self._clients.pop(client.client_id, None):
                gone.stop()

    def change(self) -> None:
        """Show the scene anew, by what the controls say now."""
        self.turns.ask(SCENE, self._show_scene)

    def _play(self) -> None:
        """The clock: it moves the time line while `play` is on, and has somebody look at what stages have made."""
        looked = time.monotonic()
        while not self._stopped.wait(PLAY_SECONDS):
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                self.turns.ask("what is there", self._refresh)
            if self.controls.play.value is True:
                sequence, step = self.controls.place()
                self.controls.step.value = (step + 1) % max(self.results.steps(sequence), 1)
                self.change()

    def _refresh(self) -> None:
        """Let the controls know what stages have made since, and show what a training has saved since."""
        changed = self.results.look_again()
        self.controls.refresh()
        if changed or (self._shows_avatar() and self.avatars.newest() is not self._avatar_shown):
            self.change()

    def _show_scene(self) -> Job | None:
        """Everything but the avatar; then every client's view is asked for anew."""
        try:
            sequence, step = self.controls.place()
            self._show_cameras(sequence, step)
            self._show_cloud(sequence, step)
            self._show_mesh(sequence, step)
            self._say("")
        except PipelineError as error:
            self._say(f"**{error}**")
        for client in list(self._clients.values()):
            client.look()
        return None

    def _say(self, text: str) -> None:
        sequence, step = self.controls.place()
        self.controls.status.content = text or f"{sequence}, time step {step} of {self.results.steps(sequence)}"

    def _show_cameras(self, sequence: str, step: int) -> None:
        pictures = self.results.pictures(sequence, step) if self.controls.cameras.value else None
        show_frusta(self.server.scene, self.results.rig, self.frustum, pictures, bool(self.controls.cameras.value))

    def _show_cloud(self, sequence: str, step: int) -> None:
        cloud = self.results.cloud(sequence, step) if self.controls.cloud.value else None
        points, colour = cloud if cloud is not None else (np.zeros((1, 3), np.float32), np.zeros((1, 3), np.uint8))
        middle, visible = self.frame.centre, cloud is not None  # half precision in the browser: keep the numbers small
        self.server.scene.add_point_cloud(
            "/cloud", points - middle, colour, point_size=0.0012, position=middle, visible=visible
        )

    def _show_mesh(self, sequence: str, step: int) -> None:
        mesh, code, fitted = self._mesh(sequence, step)
        shown = None if mesh is None or code is None else (mesh, code, self._eyes(sequence, step, code))
        self.shown = shown  # in one go: other threads look
        if mesh is None or not self.controls.mesh.value or self._shows_avatar():
            self.server.scene.add_frame("/mesh", show_axes=False)
            return
        way = self.controls.colour.value if fitted or self.controls.colour.value in ("canonical", "normals") else ""
        colour = colours(way, mesh, self.results, self.rasterizer, sequence, step)
        self.server.scene.add_mesh_trimesh("/mesh", coloured(mesh, colour))

    def _mesh(self, sequence: str, step: int) -> tuple[Mesh | None, np.ndarray | None, bool]:
        """The mesh and the code of the moment and the sliders, and whether it is the face that was fitted."""
        track, added = self.results.track(sequence), self.controls.added()
        code = track["z_exp"][step] if track else (self.head.prior.neutral.numpy() if self.head else None)
        fitted = self.results.mesh(sequence, step) if added is None else None
        if fitted is not None or self.head is None or code is None:
            return fitted, code, True
        pose = track["head_from_world"][step] if track else home(self.head.identity)
        code = code if added is None else within_reach(self.head.prior, code + added)
        mesh = self.head.mesh(code, pose, voxel_mm=max(self.head.settings.voxel_mm, LIVE_MM))
        return mesh, code, added is None and track is not None

    def _eyes(self, sequence: str, step: int, code: np.ndarray) -> np.ndarray:
        """The pose (6,) of the eyes at the moment, as the sliders change it."""
        track = self.results.track(sequence)
        eyes = eye_poses(track)[step] if track else np.full(SIZE, np.nan, np.float32)
        if self.head is None or self.controls.added() is None:
            return eyes
        turn = self.controls.gaze().ravel()
        gaze = np.where(np.isnan(eyes[:4]) & (turn == 0), np.nan, np.nan_to_num(eyes[:4]) + turn)
        pose = track["head_from_world"][step] if track else home(self.head.identity)
        return np.concatenate([gaze, self.head.lids(code, pose)]).astype(np.float32)

    def _shows_avatar(self) -> bool:
        return bool(self.controls.avatar.value) and self.avatars.newest() is not None

    def start_view(self, view: viser.CameraHandle, fine: bool) -> Iterator[np.ndarray | None] | None:
        """The avatar in one view, step by step as `refined` yields it; None while it is not to be shown."""
        avatar = self.avatars.newest() if self.controls.avatar.value else None
        if avatar is None or self.shown is None:
            return None
        mesh, code, eyes = self.shown
        self._avatar_shown = avatar
        height = max(64, min(VIEW_HEIGHT, view.image_height))
        width = int(max(64, min(4 * height, height * view.aspect)))
        camera = from_view(view.wxyz, view.position, view.fov, width, height)
        steps, size = (avatar.sampling.steps, self.picture) if fine else (1, draft(avatar, self.picture))
        return refined(avatar, self.rasterizer, mesh, code, eyes, camera, self.frame.centre, size, steps, whole=fine)


class Client:
    """One browser: its own view of the avatar, small and in one step while it moves, refined when it rests."""

    def __init__(self, page: Page, client: viser.ClientHandle):
        self._page, self._client = page, client
        self._key = ("view", client.client_id)
        self._timer: threading.Timer | None = None
        self._speed = client.gui.add_markdown("", visible=False)
        client.camera.on_update(lambda _: self.look())
        self.look()

    def look(self) -> None:
        """Have the view rendered: at once, and finely when nothing has moved for a while."""
        self._page.turns.ask(self._key, lambda: self._begin(fine=False))
        self.stop_timer()
        self._timer = threading.Timer(REST, lambda: self._page.turns.ask(self._key, lambda: self._begin(fine=True)))
        self._timer.daemon = True
        self._timer.start()

    def stop_timer(self) -> None:
        """Let nothing more be refined."""
        if self._timer:
            self._timer.cancel()

    def stop(self) -> None:
        """The browser is gone."""
        self.stop_timer()
        self._page.turns.forget(self._key)

    def _begin(self, fine: bool) -> Job | None:
        started = time.perf_counter()
        try:
            rendering = self._page.start_view(self._client.camera, fine)
            if rendering is None:
                self._client.scene.set_background_image(None)
                self._speed.visible = False
                return None
            return self._go_on(rendering, fine, started)
        except DataError:  # the view looks away from the head
            self._client.scene.set_background_image(np.full((2, 2, 3), 255, np.uint8))
            return None

    def _go_on(self, rendering: Iterator[np.ndarray | None], fine: bool, started: float) -> Job | None:
        shown = next(rendering)
        if shown is None:
            return lambda: self._go_on(rendering, fine, started)
        self._client.scene.set_background_image(shown, format="jpeg", jpeg_quality=90)
        self._page.frames += 1
        spent = time.perf_counter() - started
        self._speed.visible = True
        self._speed.content = (
            f"avatar: {'refined' if fine else 'one step'}, {1 / spent:.1f} frames/s, {shown.shape[1]}x{shown.shape[0]}"
        )
        return None
