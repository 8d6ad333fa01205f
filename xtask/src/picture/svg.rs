//! A terminal's screen, with the escape sequences of its styles, as SVG. Knows nothing of what it shows.

use std::fmt::Write as _;

const CELL_WIDTH: usize = 8;
const CELL_HEIGHT: usize = 17;
const MARGIN: usize = 12;
const FOREGROUND: &str = "#d0d0d0";
const BACKGROUND: &str = "#16181d";
/// The first eight of ANSI and their bright ones, as they look on a dark ground.
const COLOURS: [&str; 16] = [
    "#3b4048", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d0d0d0", "#5c6370",
    "#ff7b86", "#b5e890", "#ffd58a", "#7cc5ff", "#e08cf5", "#70d5e2", "#ffffff",
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Style {
    colour: Option<u8>,
    is_bold: bool,
    is_dim: bool,
    is_reversed: bool,
}

impl Style {
    /// After the parameters of one `ESC [ … m`.
    fn then(mut self, parameters: &str) -> Self {
        let mut codes = parameters.split(';').map(|code| code.parse::<u8>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => self = Self::default(),
                1 => self.is_bold = true,
                2 => self.is_dim = true,
                7 => self.is_reversed = true,
                22 => (self.is_bold, self.is_dim) = (false, false),
                27 => self.is_reversed = false,
                30..=37 => self.colour = Some(code - 30),
                38 => {
                    let indexed = codes.next() == Some(5);
                    self.colour = if indexed { codes.next() } else { None };
                }
                39 => self.colour = None,
                90..=97 => self.colour = Some(code - 90 + 8),
                _ => {}
            }
        }
        self
    }

    fn foreground(self) -> String {
        match self.colour {
            None => FOREGROUND.to_owned(),
            Some(nth @ 0..=15) => COLOURS[usize::from(nth)].to_owned(),
            // The cube of 6 by 6 by 6, then grey.
            Some(nth @ 16..=231) => {
                let level = |digit: u8| if digit == 0 { 0 } else { 55 + 40 * digit };
                let nth = nth - 16;
                format!("#{:02x}{:02x}{:02x}", level(nth / 36), level(nth / 6 % 6), level(nth % 6))
            }
            Some(nth) => format!("#{0:02x}{0:02x}{0:02x}", 8 + 10 * (nth - 232)),
        }
    }
}

/// Stretches of one style, of every line.
fn stretches(screen: &str) -> Vec<Vec<(Style, String)>> {
    let mut style = Style::default();
    let mut lines = Vec::new();
    for line in screen.lines() {
        let mut found: Vec<(Style, String)> = Vec::new();
        for (nth, part) in line.split("\x1b[").enumerate() {
            let text = match part.split_once('m') {
                Some((parameters, text)) if nth > 0 => {
                    style = style.then(parameters);
                    text
                }
                _ => part,
            };
            if !text.is_empty() {
                found.push((style, text.to_owned()));
            }
        }
        lines.push(found);
    }
    lines
}

/// The picture.
pub(super) fn of_screen(screen: &str, columns: usize, rows: usize) -> String {
    let (width, height) = (columns * CELL_WIDTH + 2 * MARGIN, rows * CELL_HEIGHT + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"13\" xml:space=\"preserve\">\n"
    );
    for (row, line) in stretches(screen).iter().enumerate() {
        let mut column = 0;
        for (style, text) in line {
            let n = text.chars().count();
            let (x, y) = (MARGIN + column * CELL_WIDTH, MARGIN + row * CELL_HEIGHT);
            column += n;
            let width = n * CELL_WIDTH;
            let mut colour = style.foreground();
            if style.is_reversed {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    svg,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{CELL_HEIGHT}\" fill=\"{colour}\"/>"
                );
                BACKGROUND.clone_into(&mut colour);
            }
            if text.trim().is_empty() {
                continue;
            }
            let bold = if style.is_bold { " font-weight=\"bold\"" } else { "" };
            let dim = if style.is_dim { " opacity=\"0.6\"" } else { "" };
            let y = y + CELL_HEIGHT - 4;
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            let _ = writeln!(
                svg,
                "<text x=\"{x}\" y=\"{y}\" textLength=\"{width}\" fill=\"{colour}\"{bold}{dim}>{text}</text>"
            );
        }
    }
    svg + "</g>\n</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_go_on_over_lines_until_they_are_taken_back() {
        let lines = stretches("a\x1b[1;31mb\nc\x1b[0md\x1b[38;5;196me\x1b[39mf");
        let texts: Vec<Vec<&str>> =
            lines.iter().map(|line| line.iter().map(|(_, text)| text.as_str()).collect()).collect();
        assert_eq!(texts, [vec!["a", "b"], vec!["c", "d", "e", "f"]]);
        let red = Style { colour: Some(1), is_bold: true, ..Style::default() };
        assert_eq!([lines[0][1].0, lines[1][0].0], [red, red]);
        assert_eq!(lines[1][1].0, Style::default());
        assert_eq!(lines[1][2].0.foreground(), "#ff0000");
        assert_eq!(lines[1][3].0.foreground(), FOREGROUND);
    }

    #[test]
    fn what_is_reversed_has_a_ground_and_text_is_no_markup() {
        let svg = of_screen("\x1b[7m<a&b>\x1b[0m", 10, 1);
        assert!(
            svg.contains("&lt;a&amp;b>") && svg.contains("<rect x=\"12\" y=\"12\" width=\"40\""),
            "{svg}"
        );
    }
}
