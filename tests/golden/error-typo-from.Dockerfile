FORM debian
