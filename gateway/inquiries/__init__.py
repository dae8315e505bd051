"""Inquiries (咨询单): registered, worked, answered, closed, called back."""
