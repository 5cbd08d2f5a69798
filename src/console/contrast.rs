//! Whether a theme can be read: contrast of every ink against every ground it stands on, and whether
//! good, warn, bad and unreal are told apart by people who see fewer colours. By `palette`'s
//! formulas (WCAG 2.1, CIE76); the simulation of colour vision is by Machado and others, 2009.

use palette::color_difference::{EuclideanDistance as _, Wcag21RelativeContrast as _};
use palette::{FromColor as _, Lab, LinSrgb, Srgb};
use ratatui::style::Color;

use super::theme::{Role, Theme};

/// Words have at least this contrast.
const CONTRAST_MIN: f32 = 4.5;
/// In themes for high contrast.
const CONTRAST_HIGH: f32 = 7.0;
/// Meanings are at least so far apart.
const DISTANCE_MIN: f32 = 18.0;

/// Rows of a matrix on linear light.
type Vision = [[f32; 3]; 3];
const VISIONS: [(&str, Vision); 4] = [
    ("full colour vision", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    (
        "protanopia",
        [
            [0.152_286, 1.052_583, -0.204_868],
            [0.114_503, 0.786_281, 0.099_216],
            [-0.003_882, -0.048_116, 1.051_998],
        ],
    ),
    (
        "deuteranopia",
        [
            [0.367_322, 0.860_646, -0.227_968],
            [0.280_085, 0.672_501, 0.047_413],
            [-0.011_820, 0.042_940, 0.968_881],
        ],
    ),
    (
        "tritanopia",
        [
            [1.255_528, -0.076_749, -0.178_779],
            [-0.078_411, 0.930_809, 0.147_602],
            [0.004_733, 0.691_367, 0.303_900],
        ],
    ),
];

fn rgb(colour: Option<Color>) -> Option<Srgb> {
    match colour {
        Some(Color::Rgb(r, g, b)) => Some(Srgb::from((r, g, b)).into_format()),
        _ => None,
    }
}

/// Whether black is read better than white on that ground.
pub(super) fn ink_is_dark(ground: (u8, u8, u8)) -> bool {
    let ground: Srgb = Srgb::from(ground).into_format();
    let on = |ink: u8| Srgb::from((ink, ink, ink)).into_format::<f32>().relative_contrast(ground);
    on(0) >= on(255)
}

fn seen_by(colour: Srgb, vision: &Vision) -> Lab {
    let light: LinSrgb = colour.into_linear();
    let [r, g, b] = vision.map(|row| {
        (row[0] * light.red + row[1] * light.green + row[2] * light.blue).clamp(0.0, 1.0)
    });
    Lab::from_color(Srgb::from_linear(LinSrgb::new(r, g, b)))
}

/// Everything that is hard to read, in words; colours that the terminal chooses are not judged.
pub fn problems(theme: &Theme) -> Vec<String> {
    let mut found = vec![];
    let fg = |role| rgb(theme.style(role).fg);
    let least = if theme.name.contains("hc") { CONTRAST_HIGH } else { CONTRAST_MIN };
    let ground = theme.ground.map(|(r, g, b)| Srgb::from((r, g, b)).into_format());
    let grounds = [
        ("the ground", ground),
        ("a bar", rgb(theme.style(Role::Surface).bg)),
        ("the selected row", rgb(theme.style(Role::Selected).bg)),
    ];
    let inks = [
        Role::Text,
        Role::Strong,
        Role::Muted,
        Role::Key,
        Role::Good,
        Role::Warn,
        Role::Bad,
        Role::Unknown,
        Role::Unreal,
    ];
    let mut held = |ink: &str, on: &str, a: Srgb, b: Srgb| {
        let contrast = a.relative_contrast(b);
        // Tables round: 4.45 is written 4.5.
        if contrast < least - 0.05 {
            found.push(format!("{ink} on {on} has a contrast of {contrast:.1}, needs {least}"));
        }
    };
    for role in inks {
        for (name, on) in grounds {
            if let (Some(ink), Some(on)) = (fg(role), on) {
                held(role.name(), name, ink, on);
            }
        }
    }
    let badges = [
        Role::Production,
        Role::Environment,
        Role::GoodBadge,
        Role::WarnBadge,
        Role::BadBadge,
        Role::UnknownBadge,
        Role::UnrealBadge,
    ];
    for role in badges {
        if let (Some(ink), Some(on)) = (fg(role), rgb(theme.style(role).bg)) {
            held(role.name(), "its own ground", ink, on);
        }
    }
    let meanings = [Role::Good, Role::Warn, Role::Bad, Role::Unreal];
    for (name, vision) in &VISIONS {
        for (i, a) in meanings.iter().enumerate() {
            for b in &meanings[i + 1..] {
                let (Some(first), Some(second)) = (fg(*a), fg(*b)) else { continue };
                let apart = seen_by(first, vision).distance(seen_by(second, vision));
                if apart < DISTANCE_MIN {
                    found.push(format!(
                        "{} and {} are {apart:.0} apart with {name}, need {DISTANCE_MIN:.0}",
                        a.name(),
                        b.name()
                    ));
                }
            }
        }
    }
    found
}
