//! Which shared statements one server has prepared, under which names.

use std::collections::HashMap;
use std::sync::Arc;

use super::Variant;

/// Bytes of a name before its number: `pw`, eight digits that are the server's own, `_`.
const PREFIX: usize = 11;

/// The statements of one server. Their names are its own, and never used twice.
#[derive(Debug)]
pub struct Copies {
    /// Part of every name, so that no client meets them by accident, and tells servers apart.
    token: u32,
    slots: Vec<Slot>,
    by_variant: HashMap<u64, usize>,
    /// The last number that was given.
    number: u64,
    /// Moves with every use.
    clock: u64,
    /// How many there may be.
    limit: usize,
    /// Statements that the server has and nobody needs: they are closed when there is something else to say to it.
    unwanted: Vec<u64>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Zero is a free slot.
    number: u64,
    /// Unknown until the server has described it.
    variant: Option<Arc<Variant>>,
    used: u64,
}

/// Where a copy is. It stays true until the copy is closed, which [`Copies::touch`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    token: u32,
    slot: usize,
    number: u64,
}

impl Place {
    /// The number in its name.
    #[inline]
    pub fn number(self) -> u64 {
        self.number
    }
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            token: rand::random(),
            slots: Vec::new(),
            by_variant: HashMap::new(),
            number: 0,
            clock: 0,
            limit: usize::MAX,
            unwanted: Vec::new(),
        }
    }
}

impl Copies {
    /// Appends a statement's name, without its NUL. Number 0 is a name that no statement has.
    pub fn write_name(&self, number: u64, into: &mut Vec<u8>) {
        let mut text = [0_u8; 32];
        let mut at = text.len();
        let mut put = |byte: u8| {
            at -= 1;
            text[at] = byte;
        };
        let mut rest = number;
        loop {
            put(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        put(b'_');
        for shift in (0..32).step_by(4) {
            put(b"0123456789abcdef"[(self.token >> shift) as usize & 15]);
        }
        put(b'w');
        put(b'p');
        into.extend_from_slice(&text[at..]);
    }

    /// The number in a text that begins with a name of ours, and how long the name is.
    pub fn read_name(&self, text: &[u8]) -> Option<(u64, usize)> {
        let digits = text.strip_prefix(b"pw")?;
        let (token, digits) = digits.split_first_chunk::<8>()?;
        let digits = digits.strip_prefix(b"_")?;
        let token = u32::from_str_radix(std::str::from_utf8(token).ok()?, 16).ok()?;
        let length = digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let number = std::str::from_utf8(&digits[..length]).ok()?.parse().ok()?;
        (token == self.token).then_some((number, PREFIX + length))
    }

    /// Whether this is a name of ours.
    pub fn is_name(&self, name: &[u8]) -> bool {
        self.read_name(name)
            .is_some_and(|(_, length)| length == name.len())
    }

    /// Whether a copy is still there; it counts as used now.
    #[inline]
    pub fn touch(&mut self, place: Place) -> bool {
        if place.token != self.token {
            return false;
        }
        let Some(slot) = self.slots.get_mut(place.slot) else {
            return false;
        };
        if slot.number != place.number {
            return false;
        }
        self.clock += 1;
        slot.used = self.clock;
        true
    }

    /// The copy of a variant, if it has been described; it counts as used now.
    pub fn find(&mut self, variant: &Variant) -> Option<Place> {
        let slot = *self.by_variant.get(&variant.id())?;
        let place = self.place(slot)?;
        self.touch(place);
        Some(place)
    }

    fn place(&self, slot: usize) -> Option<Place> {
        Some(Place {
            token: self.token,
            slot,
            number: self.slots.get(slot)?.number,
        })
    }

    /// A place for a statement that is about to be prepared. With as many as `limit` there, the one that was used
    /// least lately becomes unwanted.
    pub fn open(&mut self, limit: usize) -> Place {
        self.limit = limit;
        self.evict_beyond(limit.saturating_sub(1));
        self.number += 1;
        self.clock += 1;
        let new = Slot {
            number: self.number,
            variant: None,
            used: self.clock,
        };
        let free = self.slots.iter().position(|slot| slot.number == 0);
        let slot = free.unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.slots[slot] = new;
        Place {
            token: self.token,
            slot,
            number: self.number,
        }
    }

    /// Makes the ones used least lately unwanted, until so many are left; those that are being prepared stay.
    fn evict_beyond(&mut self, left: usize) {
        let there = self.slots.iter().filter(|slot| slot.number != 0).count();
        let surplus = there.saturating_sub(left).min(self.by_variant.len());
        for _ in 0..surplus {
            self.evict();
        }
    }

    fn evict(&mut self) {
        let described = self.slots.iter().enumerate();
        let oldest = described
            .filter(|(_, slot)| slot.variant.is_some())
            .min_by_key(|(_, slot)| slot.used)
            .map(|(at, _)| at);
        if let Some(at) = oldest {
            let slot = std::mem::take(&mut self.slots[at]);
            self.unwanted.push(slot.number);
            if let Some(variant) = slot.variant {
                self.by_variant.remove(&variant.id());
            }
        }
    }

    /// The server has prepared and described the statement at this place. Where it has the variant already, that copy
    /// stays, with the plan that PostgreSQL may have made for it, and the new one becomes unwanted.
    pub fn described(&mut self, place: Place, variant: &Arc<Variant>) -> Place {
        if !self.touch(place) {
            return place;
        }
        if let Some(older) = self.find(variant) {
            self.slots[place.slot] = Slot::default();
            self.unwanted.push(place.number);
            return older;
        }
        self.slots[place.slot].variant = Some(variant.clone());
        self.by_variant.insert(variant.id(), place.slot);
        self.evict_beyond(self.limit);
        place
    }

    /// The server has no statement at this place after all; or, if it `has`, one that nobody can use.
    pub fn failed(&mut self, place: Place, has: bool) {
        if self.touch(place) {
            self.slots[place.slot] = Slot::default();
        }
        if has {
            self.unwanted.push(place.number);
        }
    }

    /// A number for a statement that is prepared for one use and becomes unwanted at once.
    pub fn scratch(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// This statement is there, and nobody needs it.
    pub fn leave(&mut self, number: u64) {
        self.unwanted.push(number);
    }

    /// A statement to be closed.
    pub fn take_unwanted(&mut self) -> Option<u64> {
        self.unwanted.pop()
    }

    /// The server has none any more, those included that were being prepared for somebody who is gone.
    pub fn clear(&mut self) {
        self.by_variant.clear();
        self.unwanted.clear();
        self.slots.clear();
    }

    /// The server has dropped all that it had described, as DISCARD ALL and DEALLOCATE ALL do. Those that are being
    /// prepared come after that.
    pub fn forget(&mut self) {
        self.by_variant.clear();
        self.unwanted.clear();
        for slot in &mut self.slots {
            if slot.variant.is_some() {
                *slot = Slot::default();
            }
        }
    }

    /// How many it has.
    pub fn len(&self) -> usize {
        self.by_variant.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.by_variant.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Statements;
    use crate::pgwire::Description;

    fn variant(text: &str) -> Arc<Variant> {
        let asked = [text.as_bytes(), &[0, 0, 0]].concat();
        Statements::default()
            .intern(&asked, &Default::default())
            .variant(Description::default())
    }

    fn have(copies: &mut Copies, variant: &Arc<Variant>, limit: usize) -> Place {
        let place = copies.open(limit);
        copies.described(place, variant)
    }

    #[test]
    fn a_name_can_be_read_back() {
        let copies = Copies::default();
        for number in [0, 7, 1_234_567_890_123, u64::MAX] {
            let mut name = Vec::new();
            copies.write_name(number, &mut name);
            let length = name.len();
            name.extend_from_slice(b"\" does not exist");
            assert_eq!(copies.read_name(&name), Some((number, length)));
        }
        assert_eq!(copies.read_name(b"pw_1"), None);
    }

    #[test]
    fn the_one_used_least_lately_goes() {
        let (mut copies, one, two, three) =
            (Copies::default(), variant("1"), variant("2"), variant("3"));
        let first = have(&mut copies, &one, 2);
        let second = have(&mut copies, &two, 2);
        assert!(copies.touch(first));
        have(&mut copies, &three, 2);
        assert!(!copies.touch(second));
        assert_eq!(copies.find(&two), None);
        assert_eq!(copies.take_unwanted(), Some(second.number()));
        assert_eq!(copies.find(&one), Some(first));
        assert_eq!(copies.len(), 2);
    }

    #[test]
    fn a_second_copy_of_the_same_is_not_kept() {
        let (mut copies, one) = (Copies::default(), variant("1"));
        let first = have(&mut copies, &one, 9);
        let second = copies.open(9);
        assert_eq!(copies.described(second, &one), first);
        assert!(!copies.touch(second));
        assert_eq!(copies.take_unwanted(), Some(second.number()));
    }

    #[test]
    fn what_fails_leaves_its_place() {
        let mut copies = Copies::default();
        let place = copies.open(9);
        copies.failed(place, false);
        assert!(!copies.touch(place));
        assert_eq!(copies.take_unwanted(), None);
        let next = copies.open(9);
        assert_ne!(next.number(), place.number(), "a name is never used twice");
        copies.failed(next, true);
        assert_eq!(copies.take_unwanted(), Some(next.number()));
    }

    #[test]
    fn places_of_another_server_are_not_ours() {
        let (mut ours, mut theirs) = (Copies::default(), Copies::default());
        theirs.token = !ours.token;
        let place = have(&mut theirs, &variant("1"), 9);
        have(&mut ours, &variant("2"), 9);
        assert!(!ours.touch(place));
    }

    #[test]
    fn forgetting_spares_what_is_being_prepared() {
        let (mut copies, one) = (Copies::default(), variant("1"));
        let first = have(&mut copies, &one, 9);
        let coming = copies.open(9);
        copies.forget();
        assert!(!copies.touch(first));
        assert!(copies.touch(coming));
        assert!(copies.is_empty());
        copies.clear();
        assert!(!copies.touch(coming));
    }
}
