//! Themes: meanings → looks, from a file in `themes/`. Colour never carries a meaning alone;
//! without colour the modifiers and the words remain. A terminal with fewer colours gets the
//! nearest it has.

use std::collections::BTreeMap;

use ratatui::style::{Color, Modifier, Style};

use super::contrast;
use crate::config::problem::nearest;
use crate::picture::Ink;

/// The themes that come with the program.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("dark", include_str!("../../themes/dark.toml")),
    ("light", include_str!("../../themes/light.toml")),
    ("term16", include_str!("../../themes/term16.toml")),
    ("mono", include_str!("../../themes/mono.toml")),
    ("projector", include_str!("../../themes/projector.toml")),
    ("hc-dark", include_str!("../../themes/hc-dark.toml")),
    ("hc-light", include_str!("../../themes/hc-light.toml")),
    ("cvd-dark", include_str!("../../themes/cvd-dark.toml")),
    ("cvd-light", include_str!("../../themes/cvd-light.toml")),
];

macro_rules! roles {
    ($($name:ident = $text:literal;)*) => {
        /// A meaning that has a look.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the file's own word is the name")]
        pub enum Role { $($name),* }
        impl Role {
            /// All meanings.
            pub const ALL: &[Role] = &[$(Role::$name),*];
            /// Its name in a theme file.
            pub fn name(self) -> &'static str {
                match self { $(Role::$name => $text),* }
            }
        }
    };
}
roles! {
    Text = "text";
    Strong = "strong";
    Muted = "muted";
    Line = "line";
    Key = "key";
    Good = "good";
    Warn = "warn";
    Bad = "bad";
    Unknown = "unknown";
    Unreal = "unreal";
    Surface = "surface";
    Selected = "selected";
    Production = "prod";
    Environment = "env";
    GoodBadge = "good-badge";
    WarnBadge = "warn-badge";
    BadBadge = "bad-badge";
    UnknownBadge = "unknown-badge";
    UnrealBadge = "unreal-badge";
    Chart = "chart";
    ChartLimit = "chart-limit";
}

impl From<Ink> for Role {
    fn from(ink: Ink) -> Role {
        match ink {
            Ink::Text => Role::Text,
            Ink::Strong => Role::Strong,
            Ink::Muted => Role::Muted,
            Ink::Key => Role::Key,
            Ink::Good => Role::Good,
            Ink::Warn => Role::Warn,
            Ink::Bad => Role::Bad,
            Ink::Unknown => Role::Unknown,
            Ink::Unreal => Role::Unreal,
        }
    }
}

impl Role {
    /// The badge for a meaning.
    pub fn badge(ink: Ink) -> Role {
        match ink {
            Ink::Good => Role::GoodBadge,
            Ink::Warn => Role::WarnBadge,
            Ink::Bad => Role::BadBadge,
            Ink::Unreal => Role::UnrealBadge,
            Ink::Key => Role::Environment,
            Ink::Text | Ink::Strong | Ink::Muted | Ink::Unknown => Role::UnknownBadge,
        }
    }
}

/// How many colours the terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// `NO_COLOR`, or a terminal without any.
    None,
    /// Sixteen.
    Sixteen,
    /// 256.
    Indexed,
    /// All.
    True,
}

impl Depth {
    /// From the environment: `NO_COLOR`, `COLORTERM`, `TERM`.
    pub fn of(no_color: Option<&str>, colorterm: Option<&str>, term: Option<&str>) -> Depth {
        match (no_color, colorterm, term) {
            (Some(set), _, _) if !set.is_empty() => Depth::None,
            (_, _, Some("dumb")) => Depth::None,
            (_, Some("truecolor" | "24bit"), _) => Depth::True,
            (_, _, Some(term))
                if term.contains("256") || term.contains("tmux") || term.contains("direct") =>
            {
                Depth::Indexed
            }
            _ => Depth::Sixteen,
        }
    }
}

/// A theme in force.
#[derive(Clone, Debug)]
pub struct Theme {
    /// Its name.
    pub name: String,
    /// The ground that it is made for, as it was written; a terminal keeps its own unless that is
    /// known to be of the other kind.
    pub ground: Option<(u8, u8, u8)>,
    depth: Depth,
    styles: BTreeMap<Role, Style>,
}

impl Theme {
    /// Reads a theme: `ground` is what its colours stand on, `[palette]` names colours, `[role]`
    /// gives each meaning `fg`, `bg`, `bold`, `dim`, `reverse`, `underline`.
    ///
    /// # Errors
    /// Every problem, in words.
    pub fn parse(name: &str, text: &str, depth: Depth) -> Result<Theme, Vec<String>> {
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| vec![e.to_string().trim().to_owned()])?;
        let mut problems = Vec::new();
        let sections = ["ground", "palette", "role"];
        for (section, _) in table.iter().filter(|(s, _)| !sections.contains(&s.as_str())) {
            problems.push(format!(
                "unknown section {section:?}: expected ground, [palette] and [role]"
            ));
        }
        let empty = toml::Table::new();
        let palette = table.get("palette").and_then(toml::Value::as_table).unwrap_or(&empty);
        let roles = table.get("role").and_then(toml::Value::as_table).unwrap_or(&empty);
        let mut colour = |value: &toml::Value, what: &str| -> Option<Color> {
            let word = value.as_str().unwrap_or_default();
            let resolved = palette.get(word).and_then(toml::Value::as_str).unwrap_or(word);
            if let Ok(c) = resolved.parse::<Color>() {
                return Some(reduce(c, depth));
            }
            problems.push(format!(
                "{what}: {word:?} is no colour: expected #rrggbb, a terminal \
                colour, or a name from [palette]"
            ));
            None
        };
        let ground = table.get("ground").and_then(|value| {
            match value.as_str().unwrap_or_default().parse::<Color>() {
                Ok(Color::Rgb(r, g, b)) => Some((r, g, b)),
                _ => None,
            }
        });
        let mut styles = BTreeMap::new();
        let mut unknown = Vec::new();
        for (key, value) in roles {
            let Some(role) = Role::ALL.iter().find(|r| r.name() == key) else {
                let hint = nearest(key, Role::ALL.iter().map(|r| r.name()))
                    .map_or(String::new(), |n| format!(" (did you mean {n:?}?)"));
                unknown.push(format!("unknown role {key:?}{hint}"));
                continue;
            };
            let mut style = Style::default();
            for (property, value) in value.as_table().into_iter().flatten() {
                let on = value.as_bool().unwrap_or(false);
                match property.as_str() {
                    "fg" => style.fg = colour(value, key),
                    "bg" => style.bg = colour(value, key),
                    "bold" if on => style = style.add_modifier(Modifier::BOLD),
                    "dim" if on => style = style.add_modifier(Modifier::DIM),
                    "reverse" if on => style = style.add_modifier(Modifier::REVERSED),
                    "underline" if on => style = style.add_modifier(Modifier::UNDERLINED),
                    "bold" | "dim" | "reverse" | "underline" => {}
                    other => unknown.push(format!(
                        "role {key}: unknown property {other:?}: expected \
                            fg, bg, bold, dim, reverse or underline"
                    )),
                }
            }
            if depth == Depth::None {
                // What stood out by its ground stands out by reverse.
                if style.bg.is_some() && *role != Role::Surface {
                    style = style.add_modifier(Modifier::REVERSED);
                }
                (style.fg, style.bg) = (None, None);
            }
            styles.insert(*role, style);
        }
        problems.extend(unknown);
        problems.extend(
            Role::ALL
                .iter()
                .filter(|r| !styles.contains_key(r))
                .map(|r| format!("role {:?} is missing", r.name())),
        );
        if problems.is_empty() {
            Ok(Theme { name: name.to_owned(), ground, depth, styles })
        } else {
            Err(problems)
        }
    }

    /// Whether it is made for a dark ground; one that says nothing is taken to be.
    pub fn is_dark(&self) -> bool {
        self.ground.is_none_or(|(r, g, b)| u32::from(r) + u32::from(g) + u32::from(b) < 384)
    }

    /// The theme for a terminal with so many colours, when nobody asked for one.
    /// `fgbg` is `COLORFGBG`, where a terminal says what it writes with and on: `0;15`.
    pub fn name_for(depth: Depth, fgbg: Option<&str>) -> &'static str {
        let ground = fgbg.and_then(|both| both.rsplit(';').next());
        match depth {
            Depth::None => "mono",
            Depth::Sixteen => "term16",
            Depth::Indexed | Depth::True if matches!(ground, Some("7" | "15")) => "light",
            Depth::Indexed | Depth::True => "dark",
        }
    }

    /// What is painted below everything on a terminal whose ground is known to be light, or dark;
    /// `None`: the terminal's own will do.
    pub fn ground_on(&self, light: Option<bool>) -> Option<Color> {
        let (r, g, b) = self.ground.filter(|_| self.depth != Depth::None)?;
        let own_is_light = super::contrast::ink_is_dark((r, g, b));
        light.filter(|light| *light != own_is_light)?;
        Some(reduce(Color::Rgb(r, g, b), self.depth))
    }

    /// The theme for a light ground, where this one was a guess that it is dark.
    pub fn for_light(depth: Depth) -> Option<Theme> {
        matches!(depth, Depth::Indexed | Depth::True).then(|| Self::built_in("light", depth))?
    }

    /// A theme that comes with the program.
    pub fn built_in(name: &str, depth: Depth) -> Option<Theme> {
        let (name, text) = BUILT_IN.iter().find(|(n, _)| *n == name)?;
        // A test loads every one of them.
        Theme::parse(name, text, depth).ok()
    }

    /// Words on a ground that a person chose, in the ink that is read best on it.
    pub fn on(&self, ground: Option<(u8, u8, u8)>) -> Style {
        let style = self.style(Role::Environment);
        let (Some((r, g, b)), true) = (ground, style.bg.is_some()) else { return style };
        let dark = contrast::ink_is_dark((r, g, b));
        let ink = if dark { Color::Rgb(0, 0, 0) } else { Color::Rgb(255, 255, 255) };
        style.bg(reduce(Color::Rgb(r, g, b), self.depth)).fg(reduce(ink, self.depth))
    }

    /// The look of a meaning.
    pub fn style(&self, role: Role) -> Style {
        self.styles.get(&role).copied().unwrap_or_default()
    }
}

/// The nearest colour that the terminal has.
fn reduce(colour: Color, depth: Depth) -> Color {
    let Color::Rgb(r, g, b) = colour else { return colour };
    let level = |v: u8| (u16::from(v) * 5 + 127) / 255;
    match depth {
        Depth::True | Depth::None => colour,
        Depth::Indexed => {
            let index = 16 + 36 * level(r) + 6 * level(g) + level(b);
            Color::Indexed(u8::try_from(index).unwrap_or(15))
        }
        Depth::Sixteen => {
            const SIXTEEN: [(Color, [i32; 3]); 16] = [
                (Color::Black, [0, 0, 0]),
                (Color::Red, [170, 0, 0]),
                (Color::Green, [0, 170, 0]),
                (Color::Yellow, [170, 85, 0]),
                (Color::Blue, [0, 0, 170]),
                (Color::Magenta, [170, 0, 170]),
                (Color::Cyan, [0, 170, 170]),
                (Color::Gray, [170, 170, 170]),
                (Color::DarkGray, [85, 85, 85]),
                (Color::LightRed, [255, 85, 85]),
                (Color::LightGreen, [85, 255, 85]),
                (Color::LightYellow, [255, 255, 85]),
                (Color::LightBlue, [85, 85, 255]),
                (Color::LightMagenta, [255, 85, 255]),
                (Color::LightCyan, [85, 255, 255]),
                (Color::White, [255, 255, 255]),
            ];
            let want = [i32::from(r), i32::from(g), i32::from(b)];
            let distance =
                |c: &[i32; 3]| c.iter().zip(want).map(|(a, b)| (a - b) * (a - b)).sum::<i32>();
            SIXTEEN.iter().min_by_key(|(_, c)| distance(c)).map_or(Color::Reset, |(c, _)| *c)
        }
    }
}
