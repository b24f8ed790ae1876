//! Where one object is drawn: vector shapes in the object's own plane, seen in perspective.
//!
//! Objects are drawn about the origin, x to the right and y down, in units of which the object's
//! longer side has two. [`View`] takes that plane to the picture.

use tiny_skia::{
    BlendMode, FillRule, FilterQuality, GradientStop, LinearGradient, Paint, Path, PathBuilder,
    PathSegment, Pattern, Pixmap, Point, RadialGradient, Shader, SpreadMode, Stroke, Transform,
};

use super::colour::Rgb;
use super::dice::Dice;
use super::noise;

/// The eye's distance from an object's centre, in half-sides: the smaller, the stronger the
/// perspective.
const EYE: f32 = 4.5;

/// How an object's plane is seen.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Pixels for one unit.
    pub scale: f32,
    /// Rotation in the picture's plane, radians clockwise.
    pub roll: f32,
    /// Turn about the upright axis, radians.
    pub yaw: f32,
    /// Turn about the level axis, radians.
    pub pitch: f32,
    /// Width over height of the pixels' grid, as pictures are resized to squares.
    pub stretch: f32,
    /// Left and right exchanged.
    pub mirrored: bool,
}

impl View {
    /// From the object's plane to pixels about the object's centre.
    #[must_use]
    pub fn project(&self, x: f32, y: f32) -> (f32, f32) {
        let x = if self.mirrored { -x } else { x };
        let (sin, cos) = self.roll.sin_cos();
        let (x, y) = (x * cos - y * sin, x * sin + y * cos);
        let (x, z) = (x * self.yaw.cos(), x * self.yaw.sin());
        let (y, z) = (
            y * self.pitch.cos() - z * self.pitch.sin(),
            y * self.pitch.sin() + z * self.pitch.cos(),
        );
        let near = EYE / (EYE + z) * self.scale;
        let root = self.stretch.sqrt();
        (x * near * root, y * near / root)
    }

    /// The affine map that touches the projection at the centre: what gradients follow.
    fn tangent(&self, centre: f32) -> Transform {
        const STEP: f32 = 0.02;
        let (x1, y1) = self.project(STEP, 0.0);
        let (x2, y2) = self.project(0.0, STEP);
        Transform::from_row(x1 / STEP, y1 / STEP, x2 / STEP, y2 / STEP, centre, centre)
    }
}

/// What a shape is filled with. Points are in the object's plane; the last number of a stop is
/// the opacity, 0 to 1.
#[derive(Debug, Clone)]
pub enum Ink {
    /// One colour.
    Flat(Rgb),
    /// One colour that lets through what is below, by its opacity.
    Glaze(Rgb, f32),
    /// From one point to another.
    Linear((f32, f32), (f32, f32), Vec<(f32, Rgb, f32)>),
    /// About a centre, to a radius.
    Radial((f32, f32), f32, Vec<(f32, Rgb, f32)>),
}

impl Ink {
    fn shader(&self, tangent: Transform) -> Option<Shader<'static>> {
        let stops = |stops: &[(f32, Rgb, f32)]| {
            let stop = |&(at, colour, opacity)| GradientStop::new(at, skia(colour, opacity));
            stops.iter().map(stop).collect()
        };
        let point = |(x, y): (f32, f32)| Point::from_xy(x, y);
        match self {
            Self::Flat(colour) => Some(Shader::SolidColor(skia(*colour, 1.0))),
            Self::Glaze(colour, opacity) => Some(Shader::SolidColor(skia(*colour, *opacity))),
            Self::Linear(from, to, along) => LinearGradient::new(
                point(*from),
                point(*to),
                stops(along),
                SpreadMode::Pad,
                tangent,
            ),
            Self::Radial(centre, radius, along) => RadialGradient::new(
                point(*centre),
                0.0,
                point(*centre),
                *radius,
                stops(along),
                SpreadMode::Pad,
                tangent,
            ),
        }
    }
}

fn skia(colour: Rgb, opacity: f32) -> tiny_skia::Color {
    let [r, g, b] = colour.map(|level| (level / 255.0).clamp(0.0, 1.0));
    tiny_skia::Color::from_rgba(r, g, b, opacity.clamp(0.0, 1.0)).unwrap_or(tiny_skia::Color::BLACK)
}

/// A transparent square with an object's centre in its middle.
#[derive(Debug)]
pub struct Canvas {
    view: View,
    pixmap: Pixmap,
}

impl Canvas {
    /// An empty canvas that holds everything within 1.45 units of the centre.
    #[must_use]
    pub fn new(view: View) -> Self {
        let root = view.stretch.sqrt().max(1.0 / view.stretch.sqrt());
        let side = (view.scale * root * 1.45 * 2.0).ceil().clamp(4.0, 4096.0) as u32;
        let pixmap = Pixmap::new(side, side).expect("a side of 4 to 4,096 pixels");
        Self { view, pixmap }
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Side of the canvas, in pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        self.pixmap.width() as usize
    }

    /// Premultiplied red, green, blue and opacity of each pixel, row by row.
    #[must_use]
    pub fn samples(&self) -> &[u8] {
        self.pixmap.data()
    }

    /// Fills a shape.
    pub fn fill(&mut self, path: &Path, ink: &Ink) {
        self.paint(path, ink, BlendMode::SourceOver);
    }

    /// Fills the part of a shape that lies on what is drawn already, as a pattern on a ball.
    pub fn onto(&mut self, path: &Path, ink: &Ink) {
        self.paint(path, ink, BlendMode::SourceAtop);
    }

    /// Draws a line along a path; `width` in units.
    pub fn line(&mut self, path: &Path, width: f32, ink: &Ink) {
        self.outline(path, width, ink, BlendMode::SourceOver);
    }

    /// Draws a line along a path where something is drawn already.
    pub fn line_onto(&mut self, path: &Path, width: f32, ink: &Ink) {
        self.outline(path, width, ink, BlendMode::SourceAtop);
    }

    /// Takes away what lies inside a shape.
    pub fn cut(&mut self, path: &Path) {
        self.paint(path, &Ink::Flat([0.0; 3]), BlendMode::DestinationOut);
    }

    fn outline(&mut self, path: &Path, width: f32, ink: &Ink, mode: BlendMode) {
        let stroke = Stroke {
            width,
            line_cap: tiny_skia::LineCap::Round,
            line_join: tiny_skia::LineJoin::Round,
            ..Stroke::default()
        };
        if let Some(outline) = path.stroke(&stroke, self.view.scale.max(1.0)) {
            self.paint(&outline, ink, mode);
        }
    }

    fn paint(&mut self, path: &Path, ink: &Ink, blend_mode: BlendMode) {
        let centre = self.pixmap.width() as f32 / 2.0;
        let Some(shader) = ink.shader(self.view.tangent(centre)) else {
            return;
        };
        let Some(path) = projected(path, &self.view, centre) else {
            return;
        };
        let paint = Paint {
            shader,
            blend_mode,
            ..Paint::default()
        };
        self.pixmap.fill_path(
            &path,
            &paint,
            FillRule::Winding,
            Transform::identity(),
            None,
        );
    }

    /// Makes the surface uneven: blotches `cell` pixels wide, each up to `amount` (a fraction)
    /// lighter or darker.
    pub fn grain(&mut self, dice: &mut Dice, amount: f32, cell: f32) {
        let side = self.side();
        let field = noise::field(dice, side, side, cell);
        self.lighten(amount, |x, y| field[y * side + x]);
    }

    /// Makes the surface hairy: strokes `long` pixels long that lead away from the centre, now more,
    /// now less, each up to `amount` (a fraction) lighter or darker.
    pub fn hair(&mut self, dice: &mut Dice, amount: f32, long: f32) {
        let side = self.side();
        let (grain, flow) = (
            noise::field(dice, side, side, 3.0),
            noise::field(dice, side, side, side as f32 / 4.0),
        );
        let (centre, most) = (side as f32 / 2.0, (side - 1) as f32);
        let step = (long / 6.0).max(1.0);
        self.lighten(amount, |x, y| {
            let (across, down) = (x as f32, y as f32);
            let away = (down - centre).atan2(across - centre);
            let (sin, cos) = (away + (flow[y * side + x] - 0.5) * 5.0).sin_cos();
            let along = |nth: u8| {
                let by = f32::from(nth) * step;
                let column = (across + cos * by).clamp(0.0, most) as usize;
                let row = (down + sin * by).clamp(0.0, most) as usize;
                grain[row * side + column]
            };
            (0..6).map(along).sum::<f32>() / 6.0
        });
    }

    /// Scales the colours of what is drawn by up to `amount` more or less, as a field of 0 to 1 says.
    fn lighten(&mut self, amount: f32, field: impl Fn(usize, usize) -> f32) {
        let side = self.side();
        for (index, pixel) in self.pixmap.data_mut().chunks_exact_mut(4).enumerate() {
            if pixel[3] > 0 {
                let value = field(index % side, index / side);
                let gain = 1.0 + (value - 0.5) * 2.0 * amount;
                for level in &mut pixel[..3] {
                    *level = (f32::from(*level) * gain).clamp(0.0, 255.0) as u8;
                }
                // Premultiplied colour must not exceed the opacity.
                let most = pixel[3];
                pixel[..3].iter_mut().for_each(|l| *l = (*l).min(most));
            }
        }
    }

    /// Shades what is drawn as a sphere of this radius about the origin, lit from `light` (the
    /// direction to the lamp in the object's plane, about a unit long).
    pub fn round_off(&mut self, radius: f32, light: (f32, f32), strength: f32) {
        let (x, y) = (light.0 * radius * 0.45, light.1 * radius * 0.45);
        let everywhere = shape::disc(0.0, 0.0, radius * 1.2);
        let dark = [8.0, 6.0, 20.0];
        let shade = vec![
            (0.0, dark, 0.0),
            (0.45, dark, 0.04 * strength),
            (0.75, dark, 0.30 * strength),
            (1.0, dark, 0.72 * strength),
        ];
        self.onto(&everywhere, &Ink::Radial((x, y), radius * 1.5, shade));
        let white = [255.0; 3];
        let shine = vec![
            (0.0, white, 0.55 * strength),
            (0.35, white, 0.16 * strength),
            (1.0, white, 0.0),
        ];
        let spot = (light.0 * radius * 0.5, light.1 * radius * 0.5);
        self.onto(&everywhere, &Ink::Radial(spot, radius * 0.55, shine));
    }

    /// Shades what is drawn from one side to the other, as a flat or curved surface is.
    pub fn shade_across(&mut self, light: (f32, f32), strength: f32) {
        let dark = [5.0, 5.0, 15.0];
        let all = shape::rectangle(-1.5, -1.5, 3.0, 3.0);
        let stops = vec![
            (0.0, [255.0; 3], 0.18 * strength),
            (0.45, dark, 0.0),
            (1.0, dark, 0.6 * strength),
        ];
        self.onto(
            &all,
            &Ink::Linear((light.0, light.1), (-light.0, -light.1), stops),
        );
    }

    /// Shades what is drawn as an upright cylinder from x = -`radius` to `radius`.
    pub fn shade_cylinder(&mut self, radius: f32, light: f32, strength: f32) {
        let dark = [5.0, 5.0, 15.0];
        let white = [255.0; 3];
        let bright = (0.5 + light * 0.28).clamp(0.1, 0.9);
        let all = shape::rectangle(-1.5, -1.5, 3.0, 3.0);
        let stops = vec![
            (0.0, dark, 0.55 * strength),
            (bright - 0.08, white, 0.05 * strength),
            (bright, white, 0.35 * strength),
            (bright + 0.08, white, 0.05 * strength),
            (1.0, dark, 0.55 * strength),
        ];
        self.onto(&all, &Ink::Linear((-radius, 0.0), (radius, 0.0), stops));
    }

    /// Lays a picture over a rectangle from (`x`, `y`), `width` by `height` units, where something
    /// is drawn already. Its perspective is the tangent's, which a screen's small turn allows.
    pub fn picture(&mut self, picture: &Pixmap, corner: (f32, f32), size: (f32, f32)) {
        let centre = self.pixmap.width() as f32 / 2.0;
        let fit = Transform::from_row(
            size.0 / picture.width() as f32,
            0.0,
            0.0,
            size.1 / picture.height() as f32,
            corner.0,
            corner.1,
        );
        let place = self.view.tangent(centre).pre_concat(fit);
        let shader = Pattern::new(
            picture.as_ref(),
            SpreadMode::Pad,
            FilterQuality::Bilinear,
            1.0,
            place,
        );
        let area = shape::rectangle(corner.0, corner.1, size.0, size.1);
        if let Some(area) = projected(&area, &self.view, centre) {
            let paint = Paint {
                shader,
                blend_mode: BlendMode::SourceAtop,
                ..Paint::default()
            };
            self.pixmap.fill_path(
                &area,
                &paint,
                FillRule::Winding,
                Transform::identity(),
                None,
            );
        }
    }
}

/// The path as seen: its points are projected one by one, which for curves as short as these
/// cannot be told from the exact rational ones.
fn projected(path: &Path, view: &View, centre: f32) -> Option<Path> {
    let mut seen = PathBuilder::new();
    let at = |p: Point| {
        let (x, y) = view.project(p.x, p.y);
        (x + centre, y + centre)
    };
    for segment in path.segments() {
        match segment {
            PathSegment::MoveTo(p) => {
                let (x, y) = at(p);
                seen.move_to(x, y);
            }
            PathSegment::LineTo(p) => {
                let (x, y) = at(p);
                seen.line_to(x, y);
            }
            PathSegment::QuadTo(a, p) => {
                let ((x1, y1), (x, y)) = (at(a), at(p));
                seen.quad_to(x1, y1, x, y);
            }
            PathSegment::CubicTo(first, second, end) => {
                let [(x1, y1), (x2, y2), (x, y)] = [first, second, end].map(at);
                seen.cubic_to(x1, y1, x2, y2, x, y);
            }
            PathSegment::Close => seen.close(),
        }
    }
    seen.finish()
}

/// Shapes in the object's plane.
pub mod shape {
    use tiny_skia::{Path, PathBuilder, Rect};

    /// Straight lines from point to point, neither closed nor finished.
    fn through(points: &[(f32, f32)]) -> PathBuilder {
        let mut path = PathBuilder::new();
        for (index, &(x, y)) in points.iter().enumerate() {
            if index == 0 {
                path.move_to(x, y);
            } else {
                path.line_to(x, y);
            }
        }
        path
    }

    fn or_nothing(path: Option<Path>) -> Path {
        // A degenerate shape (no area, no length) draws a point far outside every canvas.
        path.unwrap_or_else(|| {
            let mut nothing = PathBuilder::new();
            nothing.move_to(1e3, 1e3);
            nothing.line_to(1e3 + 1e-3, 1e3);
            nothing.finish().expect("two points")
        })
    }

    /// A disc.
    #[must_use]
    pub fn disc(x: f32, y: f32, radius: f32) -> Path {
        ellipse(x, y, radius, radius)
    }

    /// An ellipse with level axes.
    #[must_use]
    pub fn ellipse(x: f32, y: f32, rx: f32, ry: f32) -> Path {
        let rect = Rect::from_xywh(x - rx, y - ry, 2.0 * rx, 2.0 * ry);
        or_nothing(rect.and_then(PathBuilder::from_oval))
    }

    /// A rectangle by its upper left corner and size.
    #[must_use]
    pub fn rectangle(x: f32, y: f32, width: f32, height: f32) -> Path {
        polygon(&[
            (x, y),
            (x + width, y),
            (x + width, y + height),
            (x, y + height),
        ])
    }

    /// A rectangle with round corners.
    #[must_use]
    pub fn rounded(x: f32, y: f32, width: f32, height: f32, radius: f32) -> Path {
        let (r, b) = (x + width, y + height);
        let mut path = PathBuilder::new();
        path.move_to(x + radius, y);
        path.line_to(r - radius, y);
        path.quad_to(r, y, r, y + radius);
        path.line_to(r, b - radius);
        path.quad_to(r, b, r - radius, b);
        path.line_to(x + radius, b);
        path.quad_to(x, b, x, b - radius);
        path.line_to(x, y + radius);
        path.quad_to(x, y, x + radius, y);
        path.close();
        or_nothing(path.finish())
    }

    /// A closed polygon.
    #[must_use]
    pub fn polygon(points: &[(f32, f32)]) -> Path {
        let mut path = through(points);
        path.close();
        or_nothing(path.finish())
    }

    /// An open line through the points.
    #[must_use]
    pub fn polyline(points: &[(f32, f32)]) -> Path {
        or_nothing(through(points).finish())
    }

    /// A regular polygon whose first corner is at `turn` radians.
    #[must_use]
    pub fn regular(corners: usize, radius: f32, turn: f32) -> Path {
        let points: Vec<_> = (0..corners)
            .map(|i| {
                on_circle(
                    radius,
                    turn + i as f32 * std::f32::consts::TAU / corners as f32,
                )
            })
            .collect();
        polygon(&points)
    }

    /// A regular polygon about a point.
    #[must_use]
    pub fn regular_at(corners: usize, radius: f32, (x, y): (f32, f32)) -> Path {
        let points: Vec<_> = (0..corners)
            .map(|i| on_circle(radius, i as f32 * std::f32::consts::TAU / corners as f32))
            .map(|(dx, dy)| (x + dx, y + dy))
            .collect();
        polygon(&points)
    }

    /// The point of a circle about the origin at this angle, radians clockwise from the right.
    #[must_use]
    pub fn on_circle(radius: f32, angle: f32) -> (f32, f32) {
        (radius * angle.cos(), radius * angle.sin())
    }

    /// A closed curve through the points (Catmull and Rom 1974).
    #[must_use]
    pub fn smooth(points: &[(f32, f32)]) -> Path {
        spline(points, true)
    }

    /// An open curve through the points.
    #[must_use]
    pub fn curve(points: &[(f32, f32)]) -> Path {
        spline(points, false)
    }

    fn spline(points: &[(f32, f32)], closed: bool) -> Path {
        let n = points.len() as isize;
        let at = |i: isize| {
            let i = if closed {
                i.rem_euclid(n)
            } else {
                i.clamp(0, n - 1)
            };
            points[i as usize]
        };
        let mut path = PathBuilder::new();
        path.move_to(at(0).0, at(0).1);
        for i in 0..if closed { n } else { n - 1 } {
            let (before, from, to, after) = (at(i - 1), at(i), at(i + 1), at(i + 2));
            path.cubic_to(
                from.0 + (to.0 - before.0) / 6.0,
                from.1 + (to.1 - before.1) / 6.0,
                to.0 - (after.0 - from.0) / 6.0,
                to.1 - (after.1 - from.1) / 6.0,
                to.0,
                to.1,
            );
        }
        if closed {
            path.close();
        }
        or_nothing(path.finish())
    }

    /// A slice of a disc about the origin, from one angle to another.
    #[must_use]
    pub fn sector(radius: f32, from: f32, to: f32) -> Path {
        let steps = (((to - from).abs() / 0.2).ceil() as usize).max(2);
        let mut points = vec![(0.0, 0.0)];
        points.extend(
            (0..=steps).map(|i| on_circle(radius, from + (to - from) * i as f32 / steps as f32)),
        );
        polygon(&points)
    }
}
