//! How things look, by what they mean. No colour is a background, and none is so light or so dark that it vanishes on a terminal.

use ratatui::style::{Color, Modifier, Style};

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColorDepth {
    /// No colour is wanted, or there is none.
    None,
    /// The 16 of ANSI, which are what the user has made of them.
    Sixteen,
    /// 256.
    TwoHundredFiftySix,
}

/// A style for each meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    /// What a view shows, and what counts in it.
    pub(crate) title: Style,
    /// Heads of columns and groups.
    pub(crate) heading: Style,
    /// What matters less.
    pub(crate) dim: Style,
    /// What was not there before.
    pub(crate) new: Style,
    /// What cannot be trusted, for something is lost.
    pub(crate) lossy: Style,
    /// What the kernel refused.
    pub(crate) refused: Style,
    /// The row under the cursor, the tab that is shown.
    pub(crate) selected: Style,
    /// Marks, and that it is frozen.
    pub(crate) mark: Style,
    /// A name of a key.
    pub(crate) key: Style,
}

impl Theme {
    /// For a terminal.
    pub(crate) const fn new(colors: ColorDepth) -> Self {
        const fn color(colors: ColorDepth, of_16: Color, of_256: u8, style: Style) -> Style {
            match colors {
                ColorDepth::None => style,
                ColorDepth::Sixteen => style.fg(of_16),
                ColorDepth::TwoHundredFiftySix => style.fg(Color::Indexed(of_256)),
            }
        }
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        Self {
            title: bold,
            heading: plain.add_modifier(Modifier::UNDERLINED),
            dim: plain.add_modifier(Modifier::DIM),
            new: color(colors, Color::Green, 34, bold),
            lossy: color(colors, Color::Red, 160, bold.add_modifier(Modifier::UNDERLINED)),
            refused: color(colors, Color::Magenta, 133, bold),
            selected: plain.add_modifier(Modifier::REVERSED),
            mark: color(colors, Color::Blue, 69, bold),
            key: bold,
        }
    }
}
